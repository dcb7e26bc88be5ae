/** How a QEMU is found again, and that nothing else is ever taken for it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { identifyProcess, isSameProcess } from '../../src/util/process.js';
import { quiet, temporaryDirectory } from '../support/fixtures.js';
import { fileOf, openQemuLab } from './lab.js';

/** A process that has nothing to do with VMs, whatever stands on its command line. */
async function startStranger(...words: readonly string[]) {
  const child = spawn('sh', ['-c', 'while read -r _; do :; done', ...words], { stdio: ['pipe', 'ignore', 'ignore'] });
  await once(child, 'spawn');
  const identity = await identifyProcess(child.pid ?? 0);
  if (identity === null) throw new Error('the stranger is not there');
  return {
    pid: identity.pid,
    lives: () => isSameProcess(identity),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  };
}

const runtime = (pid: number | null) => JSON.stringify({ pid, accelerator: 'tcg', forwards: [] });

describe('a stranger', () => {
  test.each([
    ['is any process', []],
    ['has the UUID on its command line, as pgrep has', ['UUID']],
    ['has the VM’s name on its command line', ['-name', 'guest=web']],
  ] as const)('that has the recorded pid and %s is never ended', async (_what, words) => {
    await using lab = await openQemuLab();
    const handle = await lab.prepare();
    await using stranger = await startStranger(...words.map((word) => (word === 'UUID' ? handle.uuid : word)));
    await writeFile(fileOf(handle, 'pidfile'), `${stranger.pid}\n`);
    await writeFile(fileOf(handle, 'runtime'), runtime(stranger.pid));
    const stopped = { state: 'stopped', handle } as const;
    expect(await lab.backend.observe(handle)).toMatchObject(stopped);
    const live = { handle, pid: stranger.pid, ssh: null, forwards: [], accelerator: 'tcg', unplugged: [] } as const;
    const stop = lab.backend.stop({ state: 'running', ...live }, { graceMs: 0 }, quiet);
    await expect(stop).rejects.toMatchObject({ code: 'VM_STATE' });
    const running = await lab.backend.start(stopped, quiet);
    expect(running.pid).not.toBe(stranger.pid);
    await lab.backend.stop(running, { graceMs: 0 }, quiet);
    await writeFile(fileOf(handle, 'pidfile'), `${stranger.pid}\n`);
    await writeFile(fileOf(handle, 'runtime'), runtime(null));
    await lab.backend.destroy(handle, quiet);
    expect(await stranger.lives()).toBe(true);
    expect(await lab.left()).toEqual([]);
  });

  test('that has the pid of a VM whose handle is lost is never ended', async () => {
    await using lab = await openQemuLab();
    const { name, directory, ...handle } = await lab.prepare();
    await using stranger = await startStranger('-name', `guest=${name}`);
    await writeFile(join(directory, VM_FILES.pidfile), `${stranger.pid}\n`);
    await lab.backend.discard({ name, backend: handle.backend, directory });
    expect(await stranger.lives()).toBe(true);
    expect(await lab.left()).toEqual([]);
  });
});

describe('a QEMU is found again', () => {
  test('when vmctl was killed before it could record the pid, by the pidfile or by its command line', async () => {
    await using lab = await openQemuLab();
    const vm = await lab.run();
    const forgotten = JSON.stringify({ pid: null, accelerator: 'tcg', forwards: null });
    await writeFile(fileOf(vm.handle, 'runtime'), forgotten);
    expect(await lab.backend.observe(vm.handle)).toEqual(vm);
    await rm(fileOf(vm.handle, 'pidfile'));
    expect(await lab.backend.observe(vm.handle)).toEqual(vm);
    await lab.backend.destroy(vm.handle, quiet);
    expect(await lab.processes(vm.handle)).toEqual([]);
  });

  test('when the record is damaged or gone, and with it the accelerator and the ports', async () => {
    await using lab = await openQemuLab();
    const vm = await lab.run();
    await writeFile(fileOf(vm.handle, 'runtime'), '{"pid":');
    expect(await lab.backend.observe(vm.handle)).toEqual(vm);
    await rm(fileOf(vm.handle, 'runtime'));
    expect(await lab.backend.observe(vm.handle)).toEqual(vm);
    await expect(lab.backend.start({ state: 'stopped', handle: vm.handle }, quiet)).rejects.toMatchObject({
      code: 'VM_STATE',
    });
    await lab.backend.destroy(vm.handle, quiet);
    expect(await lab.processes(vm.handle)).toEqual([]);
  });

  test('when the VM’s handle is lost, by the pidfile or by its command line, also through a symbolic link', async () => {
    await using lab = await openQemuLab();
    await using elsewhere = await temporaryDirectory();
    const link = join(elsewhere.path, 'vms');
    await symlink(lab.paths.vms, link);
    for (const lost of [[], [VM_FILES.pidfile, VM_FILES.runtime]]) {
      const { handle } = await lab.run();
      for (const name of [VM_FILES.handle, ...lost]) await rm(join(handle.directory, name));
      await lab.backend.discard({ name: 'web', backend: 'qemu', directory: join(link, 'web') });
      expect(await lab.processes(handle)).toEqual([]);
      expect(await lab.left()).toEqual([]);
    }
  });

  test('and is not mistaken for the QEMU of a VM of the same name in another state directory', async () => {
    await using lab = await openQemuLab();
    await using other = await openQemuLab();
    const { handle } = await lab.run();
    const bystander = await other.run();
    for (const name of [VM_FILES.handle, VM_FILES.pidfile]) await rm(join(handle.directory, name));
    await lab.backend.discard({ name: 'web', backend: 'qemu', directory: handle.directory });
    expect(await lab.processes(handle)).toEqual([]);
    expect(await other.backend.observe(bystander.handle)).toEqual(bystander);
  });
});
