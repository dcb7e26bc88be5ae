/** What happens to machines behind vmctl's back, and what it says of that. */
import { copyFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { waitFor } from '../../src/util/wait.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom, finish } from '../support/machine-room.js';
import { mayMount, mountSmallDisk } from '../support/small-disk.js';

async function declareOne(room: MachineRoom, image: string): Promise<void> {
  await room.write('VMFile.kdl', `vm "web" { image ${JSON.stringify(image)}; memory 256; cloud-init; ssh }`);
}

test('up right after an interrupted down waits for the guest to power off and brings it up again', async () => {
  await using room = await MachineRoom.open();
  await declareOne(room, await guestImage('pocket'));
  expect((await room.vmctl('up')).exitCode).toBe(0);
  const { web: before } = await room.machines();
  const down = room.start(['down']);
  down.stderr?.on('data', (text: Buffer) => {
    if (text.toString().includes('asking the guest to power off')) down.kill('SIGINT');
  });
  expect((await finish(down)).exitCode).toBe(130);

  const up = await room.vmctl('up');
  expect(up.exitCode).toBe(0);
  expect(up.stderr).toContain('1 up');
  const { web: after } = await room.machines();
  expect(after).not.toBe(before);
  expect(await room.vmctl('exec', 'web', '--', 'true')).toMatchObject({ exitCode: 0 });
});

test('a machine is not started on a replaced image or without its disk, and is whole again with the old one', async () => {
  await using room = await MachineRoom.open();
  const image = join(room.project, 'base.qcow2');
  await copyFile(await guestImage('pocket'), image);
  await declareOne(room, image);
  expect((await room.vmctl('up')).exitCode).toBe(0);
  expect((await room.vmctl('stop', 'web')).exitCode).toBe(0);

  await rename(image, `${image}.old`);
  const gone = await room.vmctl('start', 'web');
  expect(gone).toMatchObject({ exitCode: 1 });
  expect(gone.stderr).toContain(`error: the image ${image}, on which VM "web" stands, is gone`);
  await writeFile(image, 'another image');
  expect((await room.vmctl('up')).stderr).toContain(`error: the image ${image} has changed since VM "web" was made`);
  await rename(`${image}.old`, image);
  expect((await room.vmctl('up')).exitCode).toBe(0);

  await room.vmctl('stop', 'web');
  await rm(join(room.paths.vm('web'), VM_FILES.overlay));
  const torn = await room.vmctl('start', 'web');
  expect(torn.stderr).toMatch(/error: VM "web" is damaged: its disk \S+overlay\.qcow2 is missing/);
  expect(torn.stderr).toContain('vmctl reload web');
  expect((await room.vmctl('reload', 'web')).exitCode).toBe(0);
});

test('a killed QEMU leaves its trace in status and list until the machine is started again', async () => {
  await using room = await MachineRoom.open();
  await declareOne(room, await guestImage('pocket'));
  expect((await room.vmctl('up')).exitCode).toBe(0);
  await room.signal('web', 'SIGKILL');
  await waitFor(async () => (Object.keys(await room.machines()).length === 0 ? true : null), { timeoutMs: 10_000 });
  const trace = 'its process ended unexpectedly, and left no word in its log';
  expect((await room.vmctl('status', 'web')).stdout).toMatch(new RegExp(`^state +stopped\nproblem +${trace}$`, 'm'));
  expect((await room.vmctl('list')).stderr).toContain(`web: ${trace}. Start it again with: vmctl start web`);
  expect((await room.vmctl('start', 'web')).exitCode).toBe(0);
  expect((await room.vmctl('list')).stderr).toBe('');
  // One that vmctl has killed has not ended unexpectedly.
  await room.signal('web', 'SIGSTOP');
  expect((await room.vmctl('stop', 'web', '--timeout', '0s')).stderr).toContain('ended by SIGKILL');
  expect((await room.vmctl('list')).stderr).toBe('');
});

test.skipIf(!mayMount())(
  'a machine that is paused because the disk is full says so, and goes on when there is space again',
  async () => {
    await using room = await MachineRoom.open();
    const disk = await room.keepStateOn((path) => mountSmallDisk(path, 30));
    await declareOne(room, await guestImage('pocket'));
    expect((await room.vmctl('up')).exitCode).toBe(0);
    await disk.fill();
    const writing = finish(
      room.start(['exec', 'web', '--', 'head -c 20000000 /dev/urandom > big; sync; echo written']),
    );
    const isPaused = async () => ((await room.states())['web'] === 'suspended' ? true : null);
    expect(await waitFor(isPaused, { timeoutMs: 60_000 })).toBe(true);

    const words = 'a disk of this host refused what the guest writes, because it is full or failing';
    const next = 'Free some space, then run: vmctl resume web';
    expect((await room.vmctl('list')).stderr).toContain(`web: it is paused: ${words}. ${next}`);
    expect((await room.vmctl('status', 'web')).stdout).toContain(`it is paused: ${words}`);
    const { exitCode, stderr } = await room.vmctl('exec', 'web', '--', 'true');
    expect(exitCode).toBe(255);
    expect(stderr).toBe(`error: VM "web" is suspended: ${words}\nhint: ${next}\n`);

    await disk.free();
    expect((await room.vmctl('resume', 'web')).exitCode).toBe(0);
    expect(await writing).toMatchObject({ exitCode: 0, stdout: 'written\n' });
  },
);
