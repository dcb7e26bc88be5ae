/** Guests that know each other: several on one segment, and the same project twice, apart. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Outside } from '../../src/api/outside.js';
import type { RunningVm } from '../../src/api/vm-types.js';
import { upIn } from '../../src/api/up.js';
import { VM_FILES } from '../../src/paths.js';
import { generateKeyPair } from '../../src/ssh/keys.js';
import { runCommand } from '../../src/util/exec.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const MINUTES = 60_000;

/** The card on the LAN as docs/networks.md says it to those who write their own. */
const OWN_NETWORK = (address: string, mac: string) => `version: 2
ethernets:
  outside:
    match:
      name: "e*"
    dhcp4: true
  lan:
    match:
      macaddress: "${mac}"
    addresses:
      - ${address}/24
    optional: true
`;

const OWN_USER = (publicKey: string) => `#cloud-config
users:
  - name: vm
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys:
      - ${publicKey}
`;

test(
  'four machines reach each other by name, whoever wrote their seed, and a fifth is known to all',
  async () => {
    const image = JSON.stringify(await guestImage('pocket'));
    await using room = await MachineRoom.open();
    const key = generateKeyPair('own');
    await room.write('own', key.privateKey, 0o600);
    await room.write('user-data', OWN_USER(key.publicKey));
    await room.write('network', OWN_NETWORK('10.77.0.14', '02:4c:0a:4d:00:0e'));
    const vm = (name: string, more: string, lan = 'lan "back"') =>
      `vm "${name}" { image ${image}; memory 192; network "user" { ${lan}; }\n ${more}\n }\n`;
    const told = 'provision "shell" { inline "env | grep ^VMCTL_ | sort" }';
    const four =
      vm('a', `cloud-init; ssh; ${told}`) +
      vm('b-1', 'cloud-init { hostname "bee.example.org" }; ssh', 'lan "back" address="10.77.0.5"') +
      vm('c', 'cloud-init { user-data "user-data" }; ssh { private-key "own" }') +
      vm('d', 'cloud-init { network-config "network" }; ssh');
    await room.write('VMFile.kdl', four);

    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('4 up');
    // Nothing is amiss, and nothing is said of it.
    expect(up.stderr).not.toContain('LAN "back":');
    const variables = ['VMCTL_LAN_ADDRESS=10.77.0.11', 'VMCTL_PEER_B_1=10.77.0.5', 'VMCTL_PEER_C=10.77.0.13'];
    for (const line of [...variables, 'VMCTL_PEER_D=10.77.0.14']) expect(up.stderr).toContain(`a   │   ${line}`);
    const { vms } = JSON.parse((await room.vmctl('list', '--json')).stdout);
    expect(vms.map(({ name, lan }: { name: string; lan: { address: string } }) => [name, lan.address])).toEqual([
      ['a', '10.77.0.11'],
      ['b-1', '10.77.0.5'],
      ['c', '10.77.0.13'],
      ['d', '10.77.0.14'],
    ]);
    const reach = async (from: string, names: readonly string[]) => {
      const script = names.map(
        (name) => `sudo ping -c 2 -W 5 ${name} | sed -n 's/^PING //p; s/.* \\(.*\\)% packet.*/\\1/p'`,
      );
      return (await room.vmctl('exec', from, '--', script.join('\n'))).stdout;
    };
    const names = ['a', 'b-1', 'c', 'd', 'bee.example.org'];
    const addresses = ['10.77.0.11', '10.77.0.5', '10.77.0.13', '10.77.0.14', '10.77.0.5'];
    const own = { a: 0, 'b-1': 1, c: 2, d: 3 };
    for (const [from, self] of Object.entries(own)) {
      const others = names.flatMap((name, i) =>
        i === self || addresses[i] === addresses[self] ? [] : [[name, addresses[i]]],
      );
      const expected = others.map(([name, address]) => `${name} (${address}): 56 data bytes\n0\n`).join('');
      expect(
        await reach(
          from,
          others.map(([name]) => String(name)),
        ),
      ).toBe(expected);
    }

    // Paused and gone on with; powered off and on again.
    expect((await room.vmctl('suspend', 'b-1')).exitCode).toBe(0);
    expect(await reach('a', ['b-1'])).toContain('100\n');
    expect((await room.vmctl('resume', 'b-1')).exitCode).toBe(0);
    expect(await reach('a', ['b-1'])).toContain('\n0\n');
    expect((await room.vmctl('stop', 'b-1')).exitCode).toBe(0);
    await room.write('VMFile.kdl', four + vm('late', 'cloud-init; ssh'));
    const again = await room.vmctl('up');
    expect(again.stderr).toContain('a    │ provision: told who is on its LAN now');
    expect(await reach('b-1', ['a'])).toBe('a (10.77.0.11): 56 data bytes\n0\n');
    for (const from of ['a', 'd']) expect(await reach(from, ['late'])).toBe('late (10.77.0.15): 56 data bytes\n0\n');

    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
  10 * MINUTES,
);

test('a network-config that leaves the card on the LAN alone is told and not touched; without cloud-init the card is set up', async () => {
  const image = JSON.stringify(await guestImage('pocket'));
  await using room = await MachineRoom.open();
  await room.write('network', 'version: 2\n');
  const common = 'memory 192; network "user" { lan "back" }';
  const a = `vm "a" { image ${image}; ${common}; cloud-init { network-config "network" }; ssh }\n`;
  await room.write('VMFile.kdl', a);
  const up = await room.vmctl('up');
  expect(up.exitCode).toBe(0);
  expect(up.stderr).toContain('VMFile.kdl:1:');
  expect(up.stderr).toContain('the card with the MAC 02:4c:0a:4d:00:0b is to have the address 10.77.0.11/24');
  expect(up.stderr).toContain('the network-config does not make 10.77.0.11/24 on the card 02:4c:0a:4d:00:0b');
  const look = async (name: string) => (await room.vmctl('exec', name, '--', 'ip -4 -o addr; cat /etc/hosts')).stdout;
  const own = await look('a');
  expect(own).not.toContain('inet 10.77.');
  expect(own).toMatch(/\n10\.77\.0\.11 a # vmctl lan\n$/);

  // A guest that has its user and key on its disk, and no seed.
  expect((await room.vmctl('stop', 'a')).exitCode).toBe(0);
  const [disk, key] = [VM_FILES.overlay, VM_FILES.privateKey].map((name) => join(room.paths.vm('a'), name));
  if (disk === undefined || key === undefined) throw new Error('there are two');
  await runCommand('qemu-img', ['convert', '-O', 'qcow2', disk, join(room.project, 'plain.qcow2')]);
  await room.write('key', await readFile(key, 'utf8'), 0o600);
  const plain = `vm "plain" { image "plain.qcow2"; ${common}; ssh { private-key "key" } }\n`;
  await room.write('VMFile.kdl', a + plain);
  const second = await room.vmctl('up', 'plain');
  expect(second.exitCode).toBe(0);
  expect(second.stderr).not.toContain('LAN "back":');
  const plainly = await look('plain');
  expect(plainly).toContain('inet 10.77.0.12/24 brd 10.77.0.255');
  expect(plainly).toMatch(/\n10\.77\.0\.11 a # vmctl lan\n10\.77\.0\.12 plain # vmctl lan\n$/);
});

test(
  'the same project twice at the same time is two LANs: each machine reaches its own peer alone, and keeps its address',
  async () => {
    const image = await guestImage('pocket');
    const root = await mkdtemp(join(tmpdir(), 'vmctl-e2e-lan-'));
    try {
      await mkdir(join(root, 'project'));
      const outside: Outside = {
        variables: { ...process.env, XDG_DATA_HOME: join(root, 'data') },
        home: join(root, 'home'),
        cwd: join(root, 'project'),
        command: 'a test',
      };
      const vm = { image, memory: 192, network: { kind: 'user', lan: 'back' } } as const;
      const [first, second] = await Promise.all([1, 2].map(() => upIn({ vms: { a: vm, b: vm } }, outside)));
      if (first === undefined || second === undefined) throw new Error('there are two');
      await using _first = first;
      await using _second = second;
      for (const fleet of [first, second]) {
        expect([fleet.a.lan, fleet.b.lan].map((lan) => lan?.address)).toEqual(['10.77.0.11', '10.77.0.12']);
        expect((await fleet.a.status()).lan).toEqual(fleet.a.lan);
        await reaches(fleet.a, 'b');
      }
      await first.b.stop({ grace: '20s' });
      await reaches(second.a, 'b');
      expect(await lost(first.a, 'b')).toBe('100');
      // Without another word from vmctl: both are what their disks say.
      const rebooted = await first.a.reboot();
      expect(rebooted.lan).toEqual(second.a.lan);
      const addresses = await rebooted.exec("ip -4 -o addr show eth1; grep -c 'vmctl lan' /etc/hosts");
      expect(addresses.stdout).toMatch(/ 10\.77\.0\.11\/24 [^]*\n2\n$/);
      expect(await lost(rebooted, 'b')).toBe('100');
    } finally {
      await rm(root, { recursive: true, force: true, maxRetries: 5 });
    }
  },
  10 * MINUTES,
);

test(
  'two Debian machines know each other by name and wait for no network, also when cloud-init makes the hosts file',
  async () => {
    const image = JSON.stringify(await guestImage('debian'));
    await using room = await MachineRoom.open();
    const key = generateKeyPair('own');
    await room.write('own', key.privateKey, 0o600);
    await room.write('user-data', `${OWN_USER(key.publicKey)}manage_etc_hosts: true\n`);
    const common = `image ${image}; memory 768; network "user" { lan "back" }`;
    await room.write(
      'VMFile.kdl',
      `vm "a" { ${common}; cloud-init; ssh { timeout "12m" } }
       vm "b" { ${common}; cloud-init { user-data "user-data" }; ssh { private-key "own"; timeout "12m" } }`,
    );
    const up = await room.vmctl('up');
    expect(up.stderr).toMatch(/\n2 up\n$/);
    expect(up.stderr).not.toContain('LAN "back":');
    const guest = async (name: string, line: string) => (await room.vmctl('exec', name, '--', line)).stdout;
    const ping = 'sudo ping -c 2 -W 5 -q';
    expect(await guest('a', `${ping} b`)).toMatch(/^PING b \(10\.77\.0\.12\)[^]* 0% packet loss/);
    expect(await guest('b', `${ping} a`)).toMatch(/^PING a \(10\.77\.0\.11\)[^]* 0% packet loss/);
    // Seconds that systemd waited for a network, and what it has of one.
    const waited =
      'systemctl show -P ExecMainStartTimestampMonotonic -P ExecMainExitTimestampMonotonic systemd-networkd-wait-online';
    for (const name of ['a', 'b']) {
      const [begun, ended] = (await guest(name, waited))
        .trim()
        .split('\n')
        .map(Number)
        .toSorted((x, y) => x - y);
      expect((Number(ended) - Number(begun)) / 1e6).toBeLessThan(60);
      expect(Number(ended)).toBeGreaterThan(0);
      const routes = await guest(
        name,
        'ip -4 route show default; ip -4 -br addr show scope global; systemctl is-system-running --wait',
      );
      expect(routes.match(/^default /gm)).toHaveLength(1);
      expect(routes).toMatch(/^default via 10\.0\.2\.2 /);
      expect(routes).toContain(name === 'a' ? '10.77.0.11/24' : '10.77.0.12/24');
      expect(routes).not.toContain('degraded');
    }

    // The guest's own boot makes the file anew, from a template.
    expect(await guest('b', 'cat /etc/hosts')).toContain("'manage_etc_hosts' as True");
    await guest('b', 'sudo rm /etc/hosts; sudo cloud-init single --name update_etc_hosts --frequency always');
    expect(await guest('b', 'cat /etc/hosts')).toMatch(
      /manage_etc_hosts[^]*\n10\.77\.0\.11 a # vmctl lan\n10\.77\.0\.12 b # vmctl lan\n/,
    );
    expect(await guest('b', `${ping} a`)).toContain(' 0% packet loss');

    expect((await room.vmctl('down', '--destroy', '--timeout', '1m')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
  20 * MINUTES,
);

/** Per cent of pings that were not answered. */
async function lost(from: RunningVm, name: string): Promise<string> {
  const { stdout } = await from.exec(`sudo ping -c 3 -W 2 ${name}`, { check: false });
  return /(\d+)% packet loss/.exec(stdout)?.[1] ?? stdout;
}

/** Frames are lost where a guest does not keep up, so one answer is enough. */
async function reaches(from: RunningVm, name: string): Promise<void> {
  expect(await lost(from, name)).toMatch(/^(0|33|66)$/);
}
