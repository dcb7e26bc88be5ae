/** Copies that become machines of their own: here plain VMs of one image, which are given another identity. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { giveIdentity } from '../../src/provision/identity.js';
import { waitUntilReady } from '../../src/provision/readiness.js';
import type { SshConnection } from '../../src/ssh/client.js';
import { sshAccess } from '../../tasks/access.js';
import { type Origin, chooseIdentity, giveChosenIdentity } from '../../tasks/identity.js';
import { quiet } from '../support/fixtures.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const MINUTES = 60_000;

const MACHINE_ID = '0123456789abcdef0123456789abcdef';

/** Says what makes a machine different from others, one a line. */
const WHO = 'hostname; cat /etc/hostname /etc/machine-id /sys/class/net/eth0/address; grep ^127.0.1.1 /etc/hosts';

/** A VM that runs, and what is needed to log in to it. */
async function machineOf(room: MachineRoom, name: string) {
  const status = JSON.parse((await room.vmctl('status', name, '--json')).stdout);
  const directory: string = status.directory;
  const handle = JSON.parse(await readFile(join(directory, VM_FILES.handle), 'utf8'));
  const knownHosts = () => readFile(join(directory, VM_FILES.knownHosts), 'utf8');
  const [, type, key] = (await knownHosts()).trim().split(' ');
  const endpoint = { host: '127.0.0.1', port: Number(status.ssh.port) };
  const connect = async (): Promise<SshConnection> =>
    waitUntilReady({
      name,
      target: await sshAccess(handle, { home: room.root }),
      locate: async () => endpoint,
      stillRunning: async () => true,
      consoleTail: async () => '',
      timeoutMs: 5 * MINUTES,
      ...quiet,
    });
  const origin: Origin = { hostname: name, mac: String(status.mac), lanAddress: null, publicKey: `${type} ${key}` };
  return { name, directory, origin, knownHosts, connect };
}

type Machine = Awaited<ReturnType<typeof machineOf>>;

async function read(connection: SshConnection, command: string): Promise<readonly string[]> {
  const chunks: Buffer[] = [];
  const { exitCode } = await connection.exec(command, { onStdout: (chunk) => void chunks.push(chunk) });
  expect(exitCode).toBe(0);
  return Buffer.concat(chunks).toString('utf8').trimEnd().split('\n');
}

test('guests of one image get identities of their own, and keep their addresses and connections', async () => {
  await using room = await MachineRoom.open();
  const common = `image ${JSON.stringify(await guestImage('pocket'))}; memory 256; cloud-init; ssh`;
  const step = `provision "shell" run="once" { inline "echo ${MACHINE_ID} | sudo tee /etc/machine-id" }`;
  await room.write('VMFile.kdl', `vm "one" { ${common}; ${step} }\nvm "two" { ${common}; ${step} }`);
  expect((await room.vmctl('up')).exitCode).toBe(0);

  const become = async (machine: Machine, hostname: string, mac: string) => {
    await using before = await machine.connect();
    expect((await read(before, WHO))[2]).toBe(MACHINE_ID);
    const chosen = await chooseIdentity(machine, { hostname, mac, lanAddress: null }, machine.origin);
    await giveChosenIdentity(machine, chosen, before, quiet);
    await using after = await machine.connect();
    // Who is logged in already stays so.
    expect(await read(before, WHO)).toEqual(await read(after, WHO));
    return await read(after, WHO);
  };
  const [one, two] = [await machineOf(room, 'one'), await machineOf(room, 'two')];
  const first = await become(one, 'alpha', '52:54:00:aa:00:01');
  const second = await become(two, 'beta.example.org', '52:54:00:aa:00:02');
  const id = expect.stringMatching(/^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  expect(first).toEqual(['alpha', 'alpha', id, '52:54:00:aa:00:01', '127.0.1.1 alpha']);
  expect(second).toEqual(['beta', 'beta', id, '52:54:00:aa:00:02', '127.0.1.1 beta.example.org beta']);
  expect(first[2]).not.toBe(second[2]);

  // The system's ssh, too, is shown the new key, and no other is believed.
  for (const machine of [one, two]) {
    const pinned = await machine.knownHosts();
    expect(pinned.split('\n')).toHaveLength(2);
    expect(pinned).not.toContain(machine.origin.publicKey);
  }
  expect((await room.vmctl('ssh', 'one', '--', 'hostname')).stdout).toBe('alpha\n');
  expect((await room.vmctl('exec', 'two', '--', 'hostname')).stdout).toBe('beta\n');

  // All of it is on the disk.
  await room.vmctl('stop', 'one');
  expect((await room.vmctl('up', 'one')).exitCode).toBe(0);
  const restarted = await machineOf(room, 'one');
  await using again = await restarted.connect();
  expect((await read(again, WHO)).slice(0, 3)).toEqual(first.slice(0, 3));
  expect(await restarted.knownHosts()).toBe(await one.knownHosts());
});

test('an identity that was half given is given whole, and the VM can be logged in to meanwhile', async () => {
  await using room = await MachineRoom.open();
  await room.write(
    'VMFile.kdl',
    `vm "one" { image ${JSON.stringify(await guestImage('pocket'))}; memory 256; cloud-init; ssh }`,
  );
  expect((await room.vmctl('up')).exitCode).toBe(0);
  const machine = await machineOf(room, 'one');
  const login = async () => (await room.vmctl('ssh', 'one', '--', 'hostname')).stdout.trim();
  const choose = () =>
    chooseIdentity(machine, { hostname: 'alpha', mac: machine.origin.mac, lanAddress: null }, machine.origin);
  const give = async () => {
    await using connection = await machine.connect();
    await giveChosenIdentity(machine, await choose(), connection, quiet);
    return await machine.connect();
  };

  // Killed before the guest knows of it.
  const chosen = await choose();
  expect(await login()).toBe('one');
  // Killed when the guest has it, and nobody else knows that.
  {
    await using connection = await machine.connect();
    const identity = { identity: chosen.own, former: machine.origin };
    await giveIdentity(connection, identity, { name: 'one', signal: quiet.signal });
  }
  expect(await login()).toBe('alpha');
  expect((await room.vmctl('exec', 'one', '--', 'hostname')).stdout).toBe('alpha\n');

  await using connection = await give();
  expect(await read(connection, 'hostname; grep -c alpha /etc/hosts')).toEqual(['alpha', '1']);
  expect(await choose()).toEqual(chosen);
  await (await give()).close();
  expect(await machine.knownHosts()).toContain(chosen.own.hostKey.publicKey.split(' ')[1]);
  expect(await machine.knownHosts()).not.toContain(machine.origin.publicKey);

  // Without what it takes it says why, and is as it was.
  await read(connection, 'sudo rm /usr/bin/dropbearconvert');
  await expect(give()).rejects.toMatchObject({
    code: 'PROVISION_FAILED',
    message: 'VM "one" could not be made a machine of its own: dropbearconvert cannot read the new host key',
  });
  expect(await read(connection, 'sudo ls /run /etc/dropbear | grep vmctl || echo nothing left')).toEqual([
    'nothing left',
  ]);
  expect(await login()).toBe('alpha');
});

test(
  'a guest with systemd and OpenSSH gets one too, and its services go on',
  async () => {
    await using room = await MachineRoom.open();
    const image = JSON.stringify(await guestImage('debian'));
    await room.write('VMFile.kdl', `vm "one" { image ${image}; memory 768; cloud-init; ssh }`);
    expect((await room.vmctl('up')).exitCode).toBe(0);
    const machine = await machineOf(room, 'one');
    const chosen = await chooseIdentity(
      machine,
      { hostname: 'alpha.example.org', mac: null, lanAddress: null },
      machine.origin,
    );
    await using before = await machine.connect();
    await giveChosenIdentity(machine, chosen, before, quiet);
    await using connection = await machine.connect();
    const [id = '', ...names] = await read(connection, 'cat /etc/machine-id; hostname; grep 127.0.1.1 /etc/hosts');
    expect(names).toEqual(['alpha', '127.0.1.1 alpha.example.org alpha']);
    expect(await read(connection, 'ls /etc/ssh/ssh_host_*; systemctl list-units --failed --plain --no-legend')).toEqual(
      ['/etc/ssh/ssh_host_ed25519_key', '/etc/ssh/ssh_host_ed25519_key.pub'],
    );
    // Who asks for the journal of this machine finds it.
    await read(connection, `until [ -s /var/log/journal/${id}/system.journal ]; do sleep 0.2; done`);
    expect((await room.vmctl('exec', 'one', '--', 'sudo journalctl -q -n 1 | wc -l')).stdout.trim()).not.toBe('0');
  },
  15 * MINUTES,
);
