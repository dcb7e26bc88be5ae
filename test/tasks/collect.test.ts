import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NoopBackend } from '../../src/hypervisor/noop.js';
import { RouterHypervisor } from '../../src/hypervisor/router.js';
import { acquireLock } from '../../src/util/lock.js';
import { collect, planCollection } from '../../tasks/collect.js';
import { createEnvironment } from '../../tasks/environment.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';

const NO_LIMITS = { olderThanSeconds: null, budgetBytes: null };

function environment(directory: TemporaryDirectory, signal = new AbortController().signal) {
  return createEnvironment({
    variables: { XDG_DATA_HOME: directory.path },
    home: directory.path,
    cwd: directory.path,
    command: 'test',
    signal,
    hypervisor: new RouterHypervisor([new NoopBackend()], 'noop'),
  });
}

test('what somebody begins to work with after the plan was made is kept', async () => {
  await using directory = await temporaryDirectory();
  const env = environment(directory);
  await mkdir(env.paths.vmStaging('web'), { recursive: true });
  await mkdir(env.paths.vm('db'));
  const { items } = await planCollection(env, NO_LIMITS, { scope: 'all', kept: false });
  expect(items.map(({ path }) => path)).toEqual([env.paths.vmStaging('web'), env.paths.vm('db')]);
  const release = await acquireLock(env.paths.vmLock('web'), { command: 'vmctl up' });
  // A VM's disk appears where there was none.
  await mkdir(join(env.paths.vm('db'), 'overlay.qcow2'));
  const results = [];
  for (const item of items) results.push(await collect(env, item));
  expect(results).toEqual([{ result: 'kept' }, { result: 'kept' }]);
  expect((await readdir(env.paths.vms)).toSorted()).toEqual(['.staging-web', 'db']);
  await release();
});

test('after an interruption nothing more is removed', async () => {
  await using directory = await temporaryDirectory();
  const env = environment(directory, AbortSignal.abort());
  await mkdir(env.paths.vmStaging('web'), { recursive: true });
  const { items } = await planCollection(env, NO_LIMITS, { scope: 'all', kept: false });
  for (const item of items) {
    expect(await collect(env, item)).toMatchObject({ result: 'failed', error: { code: 'ABORTED' } });
  }
  expect(await readdir(env.paths.vms)).toEqual(['.staging-web']);
});
