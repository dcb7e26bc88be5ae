/** A user who is not root: what needs rights is done by pfexec, the start and the end of servers included. */
import { mkdir, writeFile } from 'node:fs/promises';
import { delimiter } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { PropolisBackend } from '../../../src/hypervisor/propolis/backend.js';
import { RouterHypervisor } from '../../../src/hypervisor/router.js';
import { reapRun } from '../../../src/lifetime/reap.js';
import { runPaths, statePaths } from '../../../src/paths.js';
import { Registry } from '../../../src/registry.js';
import { quiet, resolvedVm, temporaryDirectory } from '../../support/fixtures.js';
import { openPropolisWorld, writePfexec } from '../../support/propolis-world.js';

afterEach(() => void vi.unstubAllEnvs());

/** A host on which only pfexec may change anything, and a run of a program with a VM in it. */
async function openHost() {
  const world = await openPropolisWorld({ isRoot: false });
  const pfexec = await writePfexec(world.folder);
  vi.stubEnv('PATH', [world.folder, process.env['PATH']].join(delimiter));
  const directory = await temporaryDirectory();
  const paths = runPaths(statePaths(directory.path), 'one');
  const { locks, vms } = paths;
  const backend = new PropolisBackend({ ...world.options, isRoot: false, locks, platform: 'sunos' });
  await mkdir(vms, { recursive: true });
  const image = { path: `${directory.path}/base.raw`, format: 'raw', virtualBytes: 1024 ** 2 } as const;
  await writeFile(image.path, Buffer.alloc(image.virtualBytes));
  const places = { directory: paths.vm('web'), staging: paths.vmStaging('web') };
  const vm = resolvedVm(image, { network: { kind: 'vnic', vnic: 'vnic0' } });
  const handle = await backend.prepare(vm, places, quiet);
  return {
    world,
    paths,
    backend,
    handle,
    pfexec,
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
}

test('a server is started by pfexec, is found again by its own pid, and is stopped by pfexec', async () => {
  await using host = await openHost();
  const { backend, handle, world } = host;
  const running = await backend.start({ state: 'stopped', handle }, quiet);
  expect(await host.pfexec.commands()).toEqual([
    expect.stringMatching(/\/propolis-server run \S+\/bootrom 127\.0\.0\.1:\d+$/),
  ]);
  expect((await world.servers()).map(({ pid }) => pid)).toEqual([running.pid]);
  expect(await backend.stop(running, { graceMs: 0 }, quiet)).toBe('halt');
  expect(await world.servers()).toEqual([]);
  // Every one of them by pfexec: the host refuses it otherwise.
  expect(world.host.commands).toContain(`pfexec kill -TERM ${running.pid}`);
});

test('the server of a run is found and killed, though it is somebody else’s process, and nothing of the run is left', async () => {
  await using host = await openHost();
  const { backend, handle, paths, world } = host;
  const { pid } = await backend.start({ state: 'stopped', handle }, quiet);
  const found = { backend: 'propolis', pid, vm: 'web', directory: handle.directory };
  expect(await backend.findProcesses(paths.vms)).toEqual([found]);
  await new Registry({ paths, command: 'test' }).add(handle);
  await reapRun(paths, new RouterHypervisor([backend], 'propolis'));
  expect(world.host.commands).toContain(`pfexec kill -KILL ${pid}`);
  expect(world.host.commands).toContain(`pfexec bhyvectl --vm=${handle.uuid} --destroy`);
  expect([await world.servers(), world.host.left()]).toEqual([[], []]);
  expect(await backend.findProcesses(paths.vms)).toEqual([]);
});

test('a server that is gone already is killed without a word', async () => {
  await using host = await openHost();
  const { backend, handle } = host;
  const running = await backend.start({ state: 'stopped', handle }, quiet);
  const [found] = (await backend.findProcesses(host.paths.vms)) ?? [];
  if (found === undefined) throw new Error('the server was not found');
  await backend.stop(running, { graceMs: 0 }, quiet);
  await backend.killProcess(found);
  expect(host.world.host.commands).not.toContain(`pfexec kill -KILL ${found.pid}`);
});
