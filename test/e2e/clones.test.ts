import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const MINUTES = 60_000;

/** What makes a guest different from its siblings, one a line. */
const WHO = `hostname; cat /etc/machine-id /sys/class/net/eth0/address; head -c 16 /dev/urandom | xxd -p; cat own common`;

test(
  'four clones of one frozen machine: one freeze, restores for the others, and nothing in common that must not be',
  async () => {
    await using room = await MachineRoom.open();
    const image = JSON.stringify(await guestImage('pocket'));
    await room.write(
      'VMFile.kdl',
      `vm "worker" count=4 {
        image ${image}
        memory 256
        network "user" { forward 0 80 }
        cloud-init
        ssh
        warm #true
        provision "shell" { inline "cat /proc/sys/kernel/random/uuid | tr -d - | sudo tee /etc/machine-id; cat /etc/machine-id > common" }
        provision "shell" { inline "echo $(hostname) >> froze; sudo busybox httpd -p 80 -h $HOME" }
        provision "shell" run="each" { inline "echo $VMCTL_INDEX $(hostname) >> own" }
      }`,
    );
    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('4 up');
    expect(up.stderr.match(/worker-\d │ provision: frozen with its memory and disk/g)).toEqual([
      'worker-1 │ provision: frozen with its memory and disk',
    ]);
    expect(up.stderr.match(/, from what was frozen/g)).toHaveLength(3);

    const names = ['worker-1', 'worker-2', 'worker-3', 'worker-4'];
    const facts = await Promise.all(
      names.map(async (name) => {
        const { stdout } = await room.vmctl('exec', name, '--', WHO);
        const [hostname, machineId, mac, random, ...rest] = stdout.trimEnd().split('\n');
        const status = JSON.parse((await room.vmctl('status', name, '--json')).stdout);
        const port = status.forwards.find(({ guest }: { guest: number }) => guest === 80)?.host;
        const page = await (await fetch(`http://127.0.0.1:${port}/own`)).text();
        const hostKey = await readFile(status.ssh.knownHosts, 'utf8');
        return { name, hostname, machineId, mac, random, rest, port, page, hostKey: hostKey.split(' ')[2], status };
      }),
    );
    expect(facts.map(({ hostname }) => hostname)).toEqual(names);
    expect(facts.map(({ page }) => page)).toEqual(names.map((name, i) => `${i + 1} ${name}\n`));
    // What was done before is the same in all.
    expect(new Set(facts.map(({ rest }) => rest[1])).size).toBe(1);
    expect(facts.map(({ mac }) => mac)).toEqual(facts.map(({ status }) => status.mac));
    const distinct = (['machineId', 'mac', 'random', 'port', 'hostKey'] as const).map(
      (key) => [key, new Set(facts.map((fact) => fact[key])).size] as const,
    );
    expect(Object.fromEntries(distinct)).toEqual({ machineId: 4, mac: 4, random: 4, port: 4, hostKey: 4 });

    // Back to the frozen moment, and still the same machine.
    const reset = await room.vmctl('reset', 'worker-2');
    expect(reset.exitCode).toBe(0);
    const after = (await room.vmctl('exec', 'worker-2', '--', WHO)).stdout.split('\n');
    expect([after[0], after[1], after[2], after[4]]).toEqual([
      'worker-2',
      facts[1]?.machineId,
      facts[1]?.mac,
      '2 worker-2',
    ]);

    // It boots with what it was given.
    expect((await room.vmctl('reboot', 'worker-4')).exitCode).toBe(0);
    const booted = await room.vmctl(
      'ssh',
      'worker-4',
      '--',
      'hostname; cat /etc/machine-id /sys/class/net/eth0/address',
    );
    expect(booted.stdout).toBe(`worker-4\n${facts[3]?.machineId}\n${facts[3]?.mac}\n`);

    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    const again = await room.vmctl('up', 'worker-1', 'worker-4');
    expect(again.stderr.match(/, from what was frozen/g)).toHaveLength(2);
    expect((await room.vmctl('exec', 'worker-4', '--', 'cat own froze')).stdout).toMatch(/^4 worker-4\nworker-\d\n$/);
    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
  10 * MINUTES,
);

/** What a member of a LAN is there, and whom it reaches by name. */
const placeOnLan = (names: readonly string[]) =>
  [
    'card=$(ip -4 -o addr show | sed -n "s/^[0-9]*: \\([^ ]*\\) *inet 10.77.0.*/\\1/p")',
    'ip -4 -o addr show dev $card | sed "s/.*inet \\([^ ]*\\).*/\\1/"; cat /sys/class/net/$card/address',
    ...names.map((name) => `sudo ping -c 2 -W 5 ${name} >/dev/null && echo reaches ${name}`),
  ].join('\n');

test('clones that boot from a frozen disk have addresses of their own on their LAN', async () => {
  await using room = await MachineRoom.open();
  const image = JSON.stringify(await guestImage('pocket'));
  await room.write(
    'VMFile.kdl',
    `vm "worker" count=2 { image ${image}; memory 192; network "user" { lan "back" }; cloud-init; ssh; warm "disk" }`,
  );
  const up = await room.vmctl('up');
  expect(up.stderr).toContain('frozen with its disk in');
  expect(up.stderr.match(/, from what was frozen/g)).toHaveLength(1);
  const names = ['worker-1', 'worker-2'];
  for (const [at, name] of names.entries()) {
    expect((await room.vmctl('exec', name, '--', placeOnLan(names))).stdout.split('\n')).toEqual([
      `10.77.0.1${at + 1}/24`,
      `02:4c:0a:4d:00:0${(11 + at).toString(16)}`,
      ...names.map((other) => `reaches ${other}`),
      '',
    ]);
  }
});

test(
  'clones on one LAN have addresses of their own on it before their own steps, after a reset and after a boot',
  async () => {
    await using room = await MachineRoom.open();
    const image = `image ${JSON.stringify(await guestImage('pocket'))}; cloud-init; ssh`;
    await room.write(
      'VMFile.kdl',
      `vm "worker" count=3 {
        ${image}; memory 192
        network "user" { lan "back" }
        warm #true
        provision "shell" run="each" { inline "ip -4 -o addr show | grep -o '10[.]77[.]0[.][0-9]*/'" }
      }
      vm "other" { ${image}; memory 192; network "user" { lan "back" }; depends-on "worker" }`,
    );
    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('4 up');
    expect(up.stderr.match(/, from what was frozen/g)).toHaveLength(2);
    for (const at of [1, 2, 3]) expect(up.stderr).toContain(`worker-${at} │   10.77.0.1${at}/`);

    const names = ['worker-1', 'worker-2', 'worker-3', 'other'];
    const place = async (name: string) => (await room.vmctl('exec', name, '--', placeOnLan(names))).stdout.split('\n');
    const expected = (at: number) => [
      `10.77.0.1${at}/24`,
      `02:4c:0a:4d:00:0${(10 + at).toString(16)}`,
      ...names.map((name) => `reaches ${name}`),
      '',
    ];
    for (const [index, name] of names.entries()) expect(await place(name)).toEqual(expected(index + 1));

    const reset = await room.vmctl('reset', 'worker-3');
    expect([reset.exitCode, await place('worker-3')]).toEqual([0, expected(3)]);
    const reboot = await room.vmctl('reboot', 'worker-2');
    expect([reboot.exitCode, await place('worker-2')]).toEqual([0, expected(2)]);
    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
  10 * MINUTES,
);

test(
  'two clones of a Debian machine with systemd are two machines, on their LAN too',
  async () => {
    await using room = await MachineRoom.open();
    await room.write(
      'VMFile.kdl',
      `vm "node" count=2 {
        image ${JSON.stringify(await guestImage('debian'))}; memory 512
        network "user" { lan "back" }
        cloud-init
        ssh { timeout "15m" }
        warm #true
      }`,
    );
    const up = await room.vmctl('up');
    expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
    expect(up.stderr.match(/, from what was frozen/g)).toHaveLength(1);
    const names = ['node-1', 'node-2'];
    // Also when the network is configured anew, as at the end of a lease.
    const script = `sudo networkctl reload && sudo networkctl renew "$(ip -o route get 10.0.2.2 | sed 's/.* dev \\([^ ]*\\).*/\\1/')"
hostname; cat /etc/machine-id; ${placeOnLan(names)}`;
    const facts = await Promise.all(
      names.map(async (name) => (await room.vmctl('exec', name, '--', script)).stdout.trimEnd().split('\n')),
    );
    expect(facts.map(([hostname]) => hostname)).toEqual(names);
    expect(new Set(facts.map(([, machineId]) => machineId)).size).toBe(2);
    const reaches = names.map((name) => `reaches ${name}`);
    expect(facts.map((fact) => fact.slice(2))).toEqual([
      ['10.77.0.11/24', '02:4c:0a:4d:00:0b', ...reaches],
      ['10.77.0.12/24', '02:4c:0a:4d:00:0c', ...reaches],
    ]);
    expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
    expect(await room.leftovers()).toEqual([]);
  },
  15 * MINUTES,
);
