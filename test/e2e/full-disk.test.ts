import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { diskUsage } from '../../src/util/disk-usage.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';
import type { RunResult } from '../support/rig.js';
import { mayMount, mountExt4, mountSmallDisk } from '../support/small-disk.js';

test.skipIf(!mayMount())(
  'on a full disk machines are paused, resumed, stopped and destroyed, and nothing is left of them',
  async () => {
    const image = JSON.stringify(await guestImage('pocket'));
    await using room = await MachineRoom.open();
    const disk = await room.keepStateOn((path) => mountSmallDisk(path, 40));
    const vm = (name: string) => `vm "${name}" { image ${image}; memory 256; cloud-init; ssh }\n`;
    await room.write('VMFile.kdl', vm('one') + vm('two'));
    expect((await room.vmctl('up')).exitCode).toBe(0);
    await disk.fill();

    expect(await room.vmctl('suspend', 'one')).toMatchObject({ exitCode: 0 });
    expect(await room.vmctl('resume', 'one')).toMatchObject({ exitCode: 0 });
    // The guest cannot write what it has to before it powers off.
    expect(await room.vmctl('stop', 'one', '--timeout', '2s')).toMatchObject({ exitCode: 0 });
    expect(await room.states()).toMatchObject({ one: 'stopped' });
    await disk.fill();
    expect(await room.vmctl('image', 'prune')).toMatchObject({ exitCode: 0 });
    expect(await room.vmctl('gc')).toMatchObject({ exitCode: 0 });
    await disk.fill();
    expect(await room.vmctl('destroy', 'two', '--yes')).toMatchObject({ exitCode: 0 });
    await disk.fill();
    expect(await room.vmctl('down', '--destroy')).toMatchObject({ exitCode: 0 });
    expect(await room.leftovers()).toEqual([]);
    expect(await room.states()).toEqual({});
  },
);

/** KiB with which the first that has no space is what the host can do, the disk's header, its tables, the seed, the guest. */
const SPACES = [0, 16, 64, 192, 220, 300];

test.skipIf(!mayMount())(
  'wherever the space ends while a machine is made, up says so, and makes it whole when there is space again',
  async () => {
    await using room = await MachineRoom.open();
    const disk = await room.keepStateOn((path) => mountSmallDisk(path, 40));
    const image = JSON.stringify(await guestImage('pocket'));
    await room.write('VMFile.kdl', `vm "web" { image ${image}; memory 256; cloud-init; ssh }\n`);
    for (const kib of SPACES) {
      await disk.fill(kib * 1024);
      const { exitCode, stderr } = await room.vmctl('up');
      expect({ kib, exitCode, stderr }).toMatchObject({
        exitCode: 1,
        stderr: expect.stringContaining('Free some space'),
      });
      await disk.free();
    }
    // The last of them had begun to boot.
    expect(await room.vmctl('up')).toMatchObject({ exitCode: 0 });
    expect(await room.vmctl('exec', 'web', '--', 'true')).toMatchObject({ exitCode: 0 });
    expect(await room.vmctl('down', '--destroy')).toMatchObject({ exitCode: 0 });
    expect(await room.leftovers()).toEqual([]);
  },
);

const MIB = 1024 ** 2;
/** Two thirds of them are touched by a guest that boots. */
const MEMORY_MIB = 256;
/** What has to be free besides for a machine that is to be frozen. */
const MARGIN_MIB = 1024;

const isAlive = 'kill -0 $(cat /tmp/pid) && echo alive';

/** As the sum of bytes that its guest has to take from its memory. */
const take = (mebibytes: number, name: string) =>
  `dd if=/dev/zero of=/tmp/${name} bs=1M count=${mebibytes} 2>/dev/null`;

/** Writes nothing to the guest's own disk. */
async function declareWarm(room: MachineRoom): Promise<void> {
  const image = JSON.stringify(await guestImage('pocket'));
  const work = `until test -e /tmp/go; do sleep 0.1; done; ${take(80, 'big')}; setsid sleep 9999 > /dev/null 2>&1 & echo $! > /tmp/pid`;
  await room.write(
    'VMFile.kdl',
    `vm "web" { image ${image}; memory ${MEMORY_MIB}; cloud-init; ssh; warm #true; provision "shell" { inline ${JSON.stringify(work)} } }`,
  );
}

/** Brings it up, and does something once its step has begun, which goes on afterwards. */
async function upAnd(room: MachineRoom, meanwhile: () => Promise<void>): Promise<RunResult> {
  let letGo: Promise<unknown> = Promise.resolve();
  const result = await room.upUntil(
    (event) => event.type === 'status' && event.text.startsWith('step 1/1'),
    () => {
      letGo = meanwhile().then(() => room.vmctl('exec', 'web', '--', 'touch /tmp/go'));
    },
  );
  await letGo;
  return result;
}

const frozen = (room: MachineRoom) => readdir(room.paths.warm).catch(() => []);

test.skipIf(!mayMount())(
  'a machine that is to be frozen lives on when the disk fills up under it, and is frozen when there is space again',
  async () => {
    await using room = await MachineRoom.open();
    const disk = await room.keepStateOn((path) => mountExt4(path, MEMORY_MIB + MARGIN_MIB + 150));
    await declareWarm(room);
    // Enough for what vmctl writes down, and not for the state of the machine.
    const up = await upAnd(room, () => disk.fill(300_000));
    const told = up.stdout.split('\n').filter((line) => line.includes('not frozen'));
    expect([up.exitCode, told]).toEqual([
      0,
      [expect.stringMatching(/it was not frozen, .*cannot write .*\/state: ENOSPC/)],
    ]);
    expect(await frozen(room)).toEqual([]);
    const { web: pid } = await room.machines();
    const exec = async (command: string) => (await room.vmctl('exec', 'web', '--', command)).stdout;
    expect(await exec(isAlive)).toBe('alive\n');

    // Nor does it lack the rest of its memory, whatever else fails for want of space.
    await disk.fill();
    const snapshot = await room.vmctl('snapshot', 'web', 'first');
    expect([snapshot.exitCode, snapshot.stderr]).toEqual([1, expect.stringContaining('ENOSPC')]);
    expect(await exec(`${take(30, 'more')}; ${isAlive}`)).toBe('alive\n');
    expect(await room.machines()).toEqual({ web: pid });

    await disk.free();
    expect(JSON.parse((await room.vmctl('snapshots', '--json')).stdout)).toMatchObject({ snapshots: [] });
    await room.vmctl('down', '--destroy');
    expect((await upAnd(room, async () => {})).stdout).toContain('frozen with its memory and disk');
    const [key = ''] = await frozen(room);
    // What was kept for its memory is given back where it is not used.
    expect(await diskUsage(room.paths.frozen(key))).toBeLessThan((MEMORY_MIB - 20) * MIB);
    await room.vmctl('down', '--destroy');
    // What is frozen is not given up because nothing can be written just now.
    await disk.fill();
    const full = await room.vmctl('up');
    expect([full.exitCode, full.stderr]).toEqual([1, expect.stringContaining('Free some space')]);
    await disk.free();
    expect((await room.vmctl('up')).stderr).toContain('from what was frozen');
    expect(await exec(isAlive)).toBe('alive\n');
  },
);

test.skipIf(!mayMount())(
  'a machine for whose memory the disk has no space runs as one that is not to be frozen',
  async () => {
    await using room = await MachineRoom.open();
    await room.keepStateOn((path) => mountExt4(path, MEMORY_MIB + MARGIN_MIB - 100));
    await declareWarm(room);
    const { exitCode, stdout } = await upAnd(room, async () => {});
    const told = stdout.split('\n').filter((line) => line.includes('frozen: '));
    expect([exitCode, told]).toEqual([
      0,
      [expect.stringMatching(/it will not be frozen: that takes 1280 MiB on the disk of .*, and 1\d\d\d MiB are free/)],
    ]);
    expect(await readdir(room.paths.vm('web'))).not.toContain(VM_FILES.memory);
    expect(await frozen(room)).toEqual([]);
  },
);
