/** Memory that is saved, and VMs that go on from it: what holds for every backend that can do it, and QEMU's own part. */
import { mkdir, readFile, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FROZEN_FILES, type StartMode } from '../../src/hypervisor/hypervisor.js';
import { connectQmp } from '../../src/hypervisor/qemu/qmp.js';
import { diskUsage } from '../../src/util/disk-usage.js';
import { commandLineOf } from '../../src/util/process.js';
import { quiet } from '../support/fixtures.js';
import { type Lab, checksum, fileOf, openNoopLab, openPropolisLab, openQemuLab } from './lab.js';

const BACKENDS = [
  { kind: 'noop', open: openNoopLab },
  { kind: 'qemu', open: openQemuLab },
] as const;

/** A folder beside the VMs, with a VM frozen in it that was started for that. */
async function frozen(lab: Lab) {
  const folder = join(lab.paths.root, 'frozen');
  await mkdir(folder, { recursive: true });
  const handle = await lab.prepare();
  expect(await lab.backend.reserveMemory({ state: 'stopped', handle }, quiet)).toEqual({ supported: true });
  const running = await lab.backend.start({ state: 'stopped', handle }, quiet, { kind: 'freezable' });
  const stopped = await lab.backend.freeze(running, folder, quiet);
  const mode: StartMode = {
    kind: 'restore',
    saved: { state: join(folder, FROZEN_FILES.state), memory: join(folder, FROZEN_FILES.memory) },
  };
  return { folder, stopped, mode };
}

describe.each(BACKENDS)('the $kind backend', ({ open }) => {
  test('freezes a VM, which then goes on as others do that start from it', async () => {
    await using lab = await open();
    const { folder, stopped, mode } = await frozen(lab);
    expect((await lab.backend.observe(stopped.handle)).state).toBe('stopped');
    expect(await readdir(stopped.handle.directory)).not.toContain('memory');
    const branched = await lab.backend.branch(stopped, folder, quiet);
    expect(branched.handle.image.path).toBe(join(folder, FROZEN_FILES.disk));
    expect(JSON.parse(await readFile(fileOf(stopped.handle, 'handle'), 'utf8'))).toEqual(branched.handle);
    expect(await lab.backend.start(branched, quiet, mode)).toMatchObject({ state: 'running' });

    const handle = await lab.prepareFrozen(folder, { ...stopped.handle.spec, name: 'other' });
    expect(handle.uuid).not.toBe(stopped.handle.uuid);
    const known = await readFile(fileOf(stopped.handle, 'knownHosts'), 'utf8');
    expect(await readFile(fileOf(handle, 'knownHosts'), 'utf8')).toBe(known.replace('web', 'other'));
    await lab.backend.checkDisk(handle);
    const other = await lab.backend.start({ state: 'stopped', handle }, quiet, mode);
    expect(await lab.backend.observe(handle)).toEqual(other);
    await lab.backend.destroy(handle, quiet);
    await lab.backend.destroy(stopped.handle, quiet);
    expect(await lab.left()).toEqual([]);
  });

  test('changes nothing of what is frozen when VMs run that started from it', async () => {
    await using lab = await open();
    const { folder, stopped, mode } = await frozen(lab);
    const sums = async () => Promise.all(Object.values(FROZEN_FILES).map((name) => checksum(join(folder, name))));
    const before = await sums();
    const branched = await lab.backend.branch(stopped, folder, quiet);
    const running = await lab.backend.start(branched, quiet, mode);
    await lab.backend.stop(running, { graceMs: 0 }, quiet);
    await lab.backend.start(branched, quiet);
    expect(await sums()).toEqual(before);
  });

  test('does not start a VM whose saved state is damaged, and leaves it stopped', async () => {
    await using lab = await open();
    const { folder, stopped, mode } = await frozen(lab);
    await writeFile(join(folder, FROZEN_FILES.state), 'not what was saved');
    const branched = await lab.backend.branch(stopped, folder, quiet);
    await expect(lab.backend.start(branched, quiet, mode)).rejects.toMatchObject({ code: 'QEMU_START' });
    expect((await lab.backend.observe(branched.handle)).state).toBe('stopped');
    expect(await lab.processes(branched.handle)).toEqual([]);
    expect(await lab.backend.start(branched, quiet)).toMatchObject({ state: 'running' });
  });

  test('saves a VM that runs with its memory, and goes on from that later', async () => {
    await using lab = await open();
    const running = await lab.run();
    const path = join(lab.paths.root, 'saved');
    const suspended = await lab.backend.save(running, path, quiet);
    expect(await lab.backend.observe(running.handle)).toEqual(suspended);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const resumed = await lab.backend.resume(suspended, quiet);
    expect((await lab.backend.observe(running.handle)).state).toBe('running');
    await lab.backend.stop(resumed, { graceMs: 0 }, quiet);
    const mode: StartMode = { kind: 'restore', saved: { state: path, memory: null } };
    const restored = await lab.backend.start({ state: 'stopped', handle: running.handle }, quiet, mode);
    expect(restored.state).toBe('running');
  });

  test('goes on with all cables in, whatever was out when it was saved, or with those out that are to be', async () => {
    await using lab = await open();
    const running = await lab.run();
    const { handle } = running;
    await lab.backend.setLink(running, { nic: 'outside', up: false }, quiet);
    const path = join(lab.paths.root, 'saved');
    await lab.backend.stop(await lab.backend.save(running, path, quiet), { graceMs: 0 }, quiet);
    const mode: StartMode = { kind: 'restore', saved: { state: path, memory: null } };
    const restored = await lab.backend.start({ state: 'stopped', handle }, quiet, mode);
    expect(restored.unplugged).toEqual([]);
    await lab.backend.stop(restored, { graceMs: 0 }, quiet);
    const without = await lab.backend.start({ state: 'stopped', handle }, quiet, { ...mode, unplugged: ['outside'] });
    expect(without.unplugged).toEqual(['outside']);
    expect(await lab.backend.observe(handle)).toMatchObject({ state: 'running', unplugged: ['outside'] });
    await lab.backend.setLink(without, { nic: 'outside', up: true }, quiet);
    expect(await lab.backend.observe(handle)).toMatchObject({ unplugged: [] });
  });

  test('freezes the disk alone of a VM that is stopped', async () => {
    await using lab = await open();
    const folder = join(lab.paths.root, 'frozen');
    await mkdir(folder, { recursive: true });
    const handle = await lab.prepare();
    const stopped = await lab.backend.freeze({ state: 'stopped', handle }, folder, quiet);
    expect(await readdir(folder)).not.toContain(FROZEN_FILES.memory);
    const branched = await lab.backend.branch(stopped, folder, quiet);
    expect(await lab.backend.start(branched, quiet)).toMatchObject({ state: 'running' });
  });
});

test('Propolis tells why it cannot save memory', async () => {
  await using lab = await openPropolisLab();
  const running = await lab.run();
  const { memorySnapshots } = lab.backend.capabilities;
  expect(memorySnapshots).toMatchObject({ supported: false });
  await expect(lab.backend.save(running, '/nonexistent', quiet)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
});

describe('QEMU', () => {
  test('remembers in what it saves of a clone how the addresses of its network began', async () => {
    await using lab = await openQemuLab();
    const { folder, stopped, mode } = await frozen(lab);
    const handle = await lab.prepareFrozen(folder, { name: 'clone', group: { name: 'clones', index: 2 } });
    expect(handle.mac).not.toBe(stopped.handle.mac);
    /** Starts it, and gives whether its addresses begin earlier. */
    const start = async (how?: StartMode) => {
      const running = await lab.backend.start({ state: 'stopped', handle }, quiet, how);
      const words = running.pid === null ? null : await commandLineOf(running.pid);
      return { running, earlier: words?.some((word) => word.includes('dhcpstart=10.0.2.14')) ?? null };
    };
    const cloned = await start(mode);
    expect(cloned.earlier).toBe(true);

    const path = join(lab.paths.root, 'saved');
    await lab.backend.stop(await lab.backend.save(cloned.running, path, quiet), { graceMs: 0 }, quiet);
    const resumed = await start({ kind: 'restore', saved: { state: path, memory: null } });
    expect(resumed.earlier).toBe(true);

    const kept = join(lab.paths.root, 'kept');
    await mkdir(kept);
    await lab.backend.branch(await lab.backend.freeze(resumed.running, kept, quiet), kept, quiet);
    const restored = await start({ kind: 'restore', saved: { state: join(kept, FROZEN_FILES.state), memory: null } });
    expect(restored.earlier).toBe(true);

    await lab.backend.stop(restored.running, { graceMs: 0 }, quiet);
    expect((await start()).earlier).toBe(false);
  });

  test('reads a frozen memory and never writes it, and every VM has its own from then on', async () => {
    await using lab = await openQemuLab();
    const { folder, stopped, mode } = await frozen(lab);
    const before = await checksum(join(folder, FROZEN_FILES.memory));
    const running = await lab.backend.start(await lab.backend.branch(stopped, folder, quiet), quiet, mode);
    const qmp = await connectQmp(fileOf(running.handle, 'qmpSocket'));
    expect(await qmp.execute('query-memdev')).toMatchObject([{ id: 'pc.ram', share: false }]);
    // The BIOS runs, and so writes.
    await qmp.execute('system_reset');
    qmp.close();
    await lab.backend.stop(running, { graceMs: 0 }, quiet);
    expect(await checksum(join(folder, FROZEN_FILES.memory))).toBe(before);
  });

  test('does not make a memory fit that has another size', async () => {
    await using lab = await openQemuLab();
    const { folder, stopped, mode } = await frozen(lab);
    const memory = join(folder, FROZEN_FILES.memory);
    await truncate(memory, 4096);
    const branched = await lab.backend.branch(stopped, folder, quiet);
    await expect(lab.backend.start(branched, quiet, mode)).rejects.toMatchObject({
      message: `VM "web" cannot go on from its saved memory: ${memory} has 4096 bytes, not 64 MiB`,
    });
    expect((await stat(memory)).size).toBe(4096);
  });

  test('has the space for its memory from its start on, and gives back what it has not used when it is frozen', async () => {
    await using lab = await openQemuLab();
    const handle = await lab.prepare();
    await lab.backend.reserveMemory({ state: 'stopped', handle }, quiet);
    const running = await lab.backend.start({ state: 'stopped', handle }, quiet, { kind: 'freezable' });
    const whole = handle.spec.memoryMib * 1024 ** 2;
    expect(await diskUsage(fileOf(handle, 'memory'))).toBeGreaterThanOrEqual(whole);
    expect((await stat(fileOf(handle, 'memory'))).mode & 0o777).toBe(0o600);
    const folder = join(lab.paths.root, 'frozen');
    await mkdir(folder, { recursive: true });
    await lab.backend.freeze(running, folder, quiet);
    const memory = join(folder, FROZEN_FILES.memory);
    expect((await stat(memory)).size).toBe(whole);
    expect(await diskUsage(memory)).toBeLessThan(whole / 2);
  });

  test('goes on where its state cannot be written', async () => {
    await using lab = await openQemuLab();
    const handle = await lab.prepare();
    await lab.backend.reserveMemory({ state: 'stopped', handle }, quiet);
    const running = await lab.backend.start({ state: 'stopped', handle }, quiet, { kind: 'freezable' });
    const gone = join(lab.paths.root, 'gone', 'saved');
    await expect(lab.backend.save(running, gone, quiet)).rejects.toThrow('ENOENT');
    expect((await lab.backend.observe(handle)).state).toBe('running');
    await expect(lab.backend.freeze(running, join(lab.paths.root, 'gone'), quiet)).rejects.toThrow('ENOENT');
    expect((await lab.backend.observe(handle)).state).toBe('running');
    // And may be frozen a second time.
    const folder = join(lab.paths.root, 'frozen');
    await mkdir(folder, { recursive: true });
    await lab.backend.freeze(running, folder, quiet);
    expect((await lab.backend.observe(handle)).state).toBe('stopped');
  });

  test('saves and restores in folders whose paths are too long for a socket', async () => {
    await using lab = await openQemuLab({ folder: 'long'.repeat(30) });
    const { folder, stopped, mode } = await frozen(lab);
    const branched = await lab.backend.branch(stopped, folder, quiet);
    expect(await lab.backend.start(branched, quiet, mode)).toMatchObject({ state: 'running' });
  });
});
