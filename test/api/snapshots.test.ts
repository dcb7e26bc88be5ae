/** Named snapshots, and memory that is saved on the disk, on a backend without guests. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, expectTypeOf, test } from 'vitest';
import { upIn } from '../../src/api/up.js';
import type { RunningVm, SavedVm, StoppedVm, SuspendedVm } from '../../src/api/vm-types.js';
import type { VmEvent } from '../../src/model/event.js';
import { failure } from '../support/failure.js';
import { Programs } from '../support/programs.js';

const WEB = { image: 'disk.raw', provision: [{ inline: 'true' }] };

async function running() {
  const programs = await Programs.create();
  const steps: string[] = [];
  const onEvent = ({ step, type }: VmEvent) => void (type === 'done' && steps.push(step));
  const vms = await upIn({ vms: { web: WEB }, onEvent }, programs.outside);
  steps.length = 0;
  return {
    vms,
    web: vms.web,
    steps,
    [Symbol.asyncDispose]: async () => {
      await vms.down();
      await programs[Symbol.asyncDispose]();
    },
  };
}

const tagsOf = async (vm: Pick<RunningVm, 'snapshots'>) => (await vm.snapshots()).map(({ tag }) => tag);

test('a VM is kept under names and goes back to each, whatever state it is in', async () => {
  await using world = await running();
  const { vms, web, steps } = world;
  expect(await web.snapshots()).toEqual([]);
  await web.snapshot('first');
  await web.snapshot('second');
  expect(web.state).toBe('running');
  const [first, second] = await web.snapshots();
  expect(first).toEqual({ tag: 'first', takenAt: expect.stringMatching(/^\d{4}-.*Z$/), bytes: expect.any(Number) });
  expect(first?.bytes).toBeGreaterThan(0);
  expect(second?.tag).toBe('second');

  const stopped = await (await web.restore('first')).stop();
  const again = await stopped.restore('second');
  expect((await again.status()).state).toBe('running');
  const paused = await again.suspend();
  expect((await (await paused.restore('first')).status()).state).toBe('running');
  const saved = await again.suspend({ toDisk: true });
  const restored = await saved.restore('second');
  expect(await restored.status()).toMatchObject({ state: 'running', suspendedAt: null });
  expect(await readdir(join(vms.stateDirectory, 'vms', 'web'))).not.toContain('suspended.state');

  await stopped.deleteSnapshot('first');
  expect(await tagsOf(restored)).toEqual(['second']);
  const sequence = 'snapshot snapshot restore stop restore suspend restore suspend restore snapshot';
  expect(steps).toEqual(sequence.split(' '));
});

test('what cannot be is told by its code, and changes nothing', async () => {
  await using world = await running();
  const { web } = world;
  await web.snapshot('clean');
  expect(await failure(web.snapshot('clean'))).toMatchObject({ code: 'USAGE', fields: { vm: 'web', tag: 'clean' } });
  expect(await failure(web.snapshot('../x'))).toMatchObject({ code: 'USAGE' });
  const typo = { code: 'SNAPSHOT_NOT_FOUND', hint: 'did you mean "clean"?' };
  expect(await failure(web.restore('claen'))).toMatchObject(typo);
  expect(await failure(web.deleteSnapshot('claen'))).toMatchObject(typo);
  expect(await web.status()).toMatchObject({ state: 'running', lastFailure: null });
  expect(await tagsOf(web)).toEqual(['clean']);
  const stopped = await web.stop();
  // The object of before still says that it runs.
  expect((await failure(web.snapshot('late'))).code).toBe('VM_STATE');
  expect(await tagsOf(stopped)).toEqual(['clean']);
  await stopped.destroy();
  expect((await failure(stopped.restore('clean'))).code).toBe('VM_NOT_FOUND');
  expect((await failure(stopped.snapshots())).code).toBe('VM_NOT_FOUND');
});

test('a VM that is suspended to the disk has no process, says so, and goes on once', async () => {
  await using world = await running();
  const { vms, web, steps } = world;
  const saved = await web.suspend({ toDisk: true });
  expect(saved.state).toBe('saved');
  expect(await saved.status()).toMatchObject({ state: 'stopped', suspendedAt: expect.stringMatching(/^\d{4}-.*Z$/) });
  const resumed = await saved.resume();
  expect(await resumed.status()).toMatchObject({ state: 'running', suspendedAt: null });

  // One that is paused in memory can be as well.
  const second = await (await resumed.pause()).suspend({ toDisk: true });
  const stopped = await second.stop();
  expect(await stopped.status()).toMatchObject({ state: 'stopped', suspendedAt: null });
  expect(await readdir(join(vms.stateDirectory, 'vms', 'web'))).not.toContain('suspended.state');
  expect(await failure(second.resume())).toMatchObject({
    code: 'VM_STATE',
    message: 'cannot resume VM "web": it is stopped',
  });
  expect(steps).toEqual(['suspend', 'resume', 'suspend', 'suspend', 'stop']);
});

test('the types know in which states a VM can be kept, and what a suspended one can do', () => {
  expectTypeOf<StoppedVm>().not.toHaveProperty('snapshot');
  expectTypeOf<SuspendedVm>().not.toHaveProperty('snapshot');
  expectTypeOf<SavedVm>().not.toHaveProperty('crash');
  expectTypeOf<SavedVm>().not.toHaveProperty('exec');
  const suspend = (vm: RunningVm) => ({ inMemory: () => vm.suspend(), toDisk: () => vm.suspend({ toDisk: true }) });
  expectTypeOf<ReturnType<ReturnType<typeof suspend>['inMemory']>>().toEqualTypeOf<Promise<SuspendedVm>>();
  expectTypeOf<ReturnType<ReturnType<typeof suspend>['toDisk']>>().toEqualTypeOf<Promise<SavedVm>>();
});
