import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { waitFor } from '../../src/util/wait.js';
import { sha256 } from '../support/digest.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

/** A folder whose name would break anything that goes through a shell, a QEMU option or a socket path unescaped. */
const HOSTILE_FOLDER = `it's "quoted", with = commas, $HOME, %h, ${'long '.repeat(18)}`.trim();

test('two machines come up at the same time, are provisioned, stop, come back with their files, and leave nothing', async () => {
  const image = await guestImage('pocket');
  const before = await sha256(image);
  await using room = await MachineRoom.open({ folder: HOSTILE_FOLDER });
  await room.write('hello there.txt', 'from the host\n', 0o640);
  await room.write('setup.sh', '#!/bin/sh\nset -e\nhostname > /home/vm/name\necho "err" >&2\n', 0o755);
  await room.write(
    'VMFile.kdl',
    `vm "web" {
      image ${JSON.stringify(image)}
      memory 256
      disk "2GiB"
      network "user" { forward 0 8080 }
      cloud-init { hostname "web-1" }
      ssh { user "vm" }
      provision "file" { source "hello there.txt"; destination "/home/vm/hello.txt" }
      provision "shell" { script "setup.sh" }
    }
    vm "db" {
      image ${JSON.stringify(image)}
      memory 256
      cloud-init
      ssh
      provision "shell" { inline "echo db has $(nproc) CPU" }
    }`,
  );

  const up = await room.vmctl('up');
  const status = JSON.parse((await room.vmctl('status', 'web', '--json')).stdout);
  expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
  expect(up.exitCode).toBe(0);
  expect(up.stderr).toContain('db  │   db has 1 CPU');
  // Said once, not for each machine; and not at all where KVM works.
  expect(up.stderr.match(/guests run by software emulation/g) ?? []).toHaveLength(status.accelerator === 'tcg' ? 1 : 0);
  expect(await room.states()).toEqual({ db: 'running', web: 'running' });
  expect(Object.keys(await room.machines()).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['db', 'web']);

  const read = await room.vmctl('exec', 'web', '--', 'cat name hello.txt; stat -c %a hello.txt; hostname');
  expect(read).toMatchObject({ exitCode: 0, stdout: 'web-1\nfrom the host\n640\nweb-1\n' });
  const size = await room.vmctl('exec', 'web', '--', 'df -k / | tail -1');
  expect(Number(size.stdout.split(/\s+/)[1])).toBeGreaterThan(1_800_000);
  expect(await room.vmctl('ssh', 'db', '--', 'echo out; echo err >&2; exit 7')).toMatchObject({
    exitCode: 7,
    stdout: 'out\n',
  });
  const ownKey = await room.write(
    'my "own" key, 100%',
    await readFile(join(room.paths.vm('db'), VM_FILES.privateKey), 'utf8'),
    0o600,
  );
  expect((await room.vmctl('ssh', 'db', '--key', ownKey, '--', 'echo in')).stdout).toBe('in\n');
  expect((await room.vmctl('exec', 'db', '--', 'printf', '%s|', 'a b', "it's", '$HOME')).stdout).toBe(
    "a b|it's|$HOME|",
  );
  expect(status.forwards.map(({ guest }: { guest: number }) => guest)).toEqual([22, 8080]);
  expect((await room.vmctl('log', 'web', '--provision')).stdout).toContain('err');
  expect((await room.vmctl('log', 'web')).stdout).toContain('Linux version');

  const again = await room.vmctl('up');
  expect(again.stderr).toContain('2 already up');

  const down = await room.vmctl('down');
  expect(down.stderr.match(/powered off by itself/g)).toHaveLength(2);
  expect(await room.machines()).toEqual({});
  expect((await room.vmctl('up', 'web')).exitCode).toBe(0);
  expect((await room.vmctl('exec', 'web', '--', 'cat', 'name')).stdout).toBe('web-1\n');

  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
  expect(await room.states()).toEqual({});
  expect(await sha256(image)).toBe(before);
});

test('a machine whose QEMU is killed from outside shows as stopped and comes up again', async () => {
  const image = await guestImage('pocket');
  await using room = await MachineRoom.open();
  await room.write('VMFile.kdl', `vm "web" { image ${JSON.stringify(image)}; memory 256; cloud-init; ssh }`);
  expect((await room.vmctl('up')).exitCode).toBe(0);
  await room.signal('web', 'SIGKILL');
  await waitFor(async () => (Object.keys(await room.machines()).length === 0 ? true : null), { timeoutMs: 10_000 });
  expect(await room.states()).toEqual({ web: 'stopped' });
  expect((await room.vmctl('up')).exitCode).toBe(0);
  expect(await room.states()).toEqual({ web: 'running' });
});

test('a failed step stops its machine only, names the step and shows its last lines; the next up runs it again', async () => {
  const image = await guestImage('pocket');
  await using room = await MachineRoom.open();
  const declare = (command: string) =>
    room.write(
      'VMFile.kdl',
      `vm "bad" {
        image ${JSON.stringify(image)}
        memory 256
        cloud-init
        ssh
        provision "shell" { inline "echo first" }
        provision "shell" { inline "echo about to fail; ${command}" }
        provision "shell" { inline "echo never" }
      }
      vm "good" { image ${JSON.stringify(image)}; memory 256; cloud-init; ssh; provision "shell" { inline "echo fine" } }`,
    );
  await declare('exit 3');
  const failed = await room.vmctl('up');
  expect(failed.exitCode).toBe(1);
  expect(failed.stderr).toMatch(/step 2/);
  expect(failed.stderr).toContain('about to fail');
  expect(failed.stderr).not.toContain('  never');
  expect(failed.stderr).toContain('good │   fine');
  const status = JSON.parse((await room.vmctl('status', 'bad', '--json')).stdout);
  expect(status).toMatchObject({ state: 'running', provisioning: 'failed', lastFailure: { step: 'provision' } });
  await declare('true');
  const repaired = await room.vmctl('up');
  expect(repaired.exitCode).toBe(0);
  expect(repaired.stderr).toContain('bad  │ start: skipped, already running');
  expect(repaired.stderr).toContain('never');
});

test('a guest that never answers is given up with what was waited for and exit code 124', async () => {
  await using room = await MachineRoom.open();
  // A boot sector that does nothing: there is a machine, and never a guest.
  await room.write('nothing.raw', '\0'.repeat(1024 * 1024));
  await room.write('VMFile.kdl', 'vm "mute" { image "nothing.raw"; memory 64; cloud-init; ssh { timeout 2 } }');
  const { exitCode, stderr } = await room.vmctl('up');
  expect(exitCode).toBe(124);
  expect(stderr).toMatch(/no SSH banner on 127\.0\.0\.1:\d+/);
  expect(stderr).toContain('within 2 s');
});
