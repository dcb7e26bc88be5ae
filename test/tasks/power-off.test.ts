import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

/** A VM whose guest was asked to power off by a `down` that was interrupted then; what is done to it is kept. */
async function poweringOff() {
  const interruption = new AbortController();
  const done: string[] = [];
  const rig = await Rig.create({
    before: async (operation, _name, signal) => {
      if (operation === 'stop') interruption.abort();
      signal.throwIfAborted();
      done.push(operation);
    },
  });
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['down'], { signal: interruption.signal })).exitCode).toBe(130);
  expect(await rig.states()).toEqual({ web: 'running' });
  done.splice(0);
  return { rig, done };
}

test.each([['up'], ['start', 'web']])(
  '%s of a VM that is powering off waits for its end and starts it again',
  async (...words) => {
    const { rig, done } = await poweringOff();
    await using _ = rig;
    const { exitCode, stderr } = await rig.vmctl(words);
    expect(exitCode).toBe(0);
    expect(done).toEqual(['stop', 'start']);
    expect(stderr).toContain('it is powering off; it is started again when it has stopped');
    expect(await rig.states()).toEqual({ web: 'running' });
    expect((await rig.vmctl(['up'])).stderr).not.toContain('powering off');
  },
);

test('a VM that is powering off is told as such, by list, status and the plan of up', async () => {
  const { rig } = await poweringOff();
  await using _ = rig;
  expect((await rig.vmctl(['list'])).stderr).toContain('web: its guest was asked to power off');
  expect((await rig.vmctl(['status', 'web'])).stdout).toMatch(/^problem +its guest was asked to power off$/m);
  expect((await rig.vmctl(['up', '--dry-run'])).stdout).toContain(
    'start and provision, because it is powering off, and is started again then',
  );
  await rig.vmctl(['down']);
  expect(await rig.vmctl(['list'])).toMatchObject({ stderr: '' });
});

test('a VM that was stopped without a grace was not asked anything', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'web', '--timeout', '0s']);
  expect((await rig.vmctl(['up'])).stderr).not.toContain('powering off');
});
