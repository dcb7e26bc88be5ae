/** Somebody interrupts vmctl, at each moment at which it looks whether somebody does: nothing is left half done. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { StageContext } from '../../../src/model/event.js';
import type { RunningVm, VmHandle } from '../../../src/model/vm.js';
import { quiet } from '../../support/fixtures.js';
import { interruptionAt } from '../../support/interruption.js';
import { actAsGuest } from '../../support/propolis-world.js';
import { type PropolisLab, openPropolisLab } from '../lab.js';

/** Does it again and again, interrupted ever later, until it is done; gives at which look that was. */
async function interruptEverywhere(
  work: (context: StageContext) => Promise<unknown>,
  check: (look: number) => Promise<void>,
  after: (look: number) => number = (look) => look + 1,
): Promise<number> {
  for (let look = 1; ; look = after(look)) {
    const { signal } = interruptionAt(look);
    const outcome = await work({ ...quiet, signal }).then(
      () => null,
      (error: unknown) => error,
    );
    if (outcome === null) return look;
    expect([look, outcome]).toEqual([look, expect.objectContaining({ code: 'ABORTED' })]);
    await check(look);
  }
}

/** A guest that was asked to power off before the interruption may do so at any time. */
async function end({ backend }: PropolisLab, vm: RunningVm): Promise<void> {
  try {
    await backend.stop(vm, { graceMs: 0 }, quiet);
  } catch (error) {
    if ((await backend.observe(vm.handle)).state !== 'stopped') throw error;
  }
}

const DISK = { diskBytes: 20 * 1024 ** 2 };

describe('an interruption', () => {
  test('of a preparation leaves no volume and no directory', async () => {
    await using lab = await openPropolisLab();
    const times = await interruptEverywhere(
      (context) => lab.prepare(DISK, context),
      async (look) => {
        expect([look, await lab.left(), lab.elsewhere()]).toEqual([look, [], []]);
      },
    );
    // At least one for each command that it takes.
    expect(times).toBeGreaterThan(10);
    expect(await lab.left()).toEqual(['web']);
  });

  test('of a start leaves no server and no VNIC, and the VM can be started', async () => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    const before = lab.elsewhere();
    const times = await interruptEverywhere(
      (context) => lab.backend.start({ state: 'stopped', handle }, context),
      async (look) => {
        expect([look, await lab.processes(handle), lab.elsewhere()]).toEqual([look, [], before]);
      },
      // Each of the first few is a command. Then the server is waited for, where one look is as good as the next.
      (look) => look + (look < 8 ? 1 : 4),
    );
    expect(times).toBeGreaterThan(8);
    expect((await lab.backend.observe(handle)).state).toBe('running');
  }, 120_000);

  test('of a stop leaves a VM that runs whole, or is stopped whole', async () => {
    await using lab = await openPropolisLab({
      powerOff: async (handle) => {
        await actAsGuest(handle.directory, 'power-off');
      },
    });
    await lab.behave({ holds: ['Destroyed'], holdMs: 100 });
    const handle = await lab.prepare();
    let running = await start(lab, handle);
    await interruptEverywhere(
      (context) => lab.backend.stop(running, { graceMs: 20_000 }, context),
      async (look) => {
        const { state } = await lab.backend.observe(handle);
        const whole = { processes: (await lab.processes(handle)).length, vnics: Object.keys(lab.host.state.vnics) };
        expect([look, whole]).toEqual([look, { processes: 1, vnics: ['vnic0'] }]);
        if (state === 'running') await end(lab, running);
        running = await start(lab, handle);
      },
    );
    expect((await lab.backend.observe(handle)).state).toBe('stopped');
    expect([await lab.processes(handle), Object.keys(lab.host.state.vnics)]).toEqual([[], []]);
  }, 120_000);

  test('of a destruction does not keep it from being done', async () => {
    await using lab = await openPropolisLab();
    const { handle } = await lab.run();
    await lab.backend.destroy(handle, { ...quiet, signal: AbortSignal.abort() });
    expect([await lab.processes(handle), lab.elsewhere(), await lab.left()]).toEqual([[], [], []]);
  });

  test.each(['PUT /instance', 'PUT /instance/state', 'GET /instance again'])(
    'while %s is not answered leaves no server and no VNIC',
    async (request) => {
      await using lab = await openPropolisLab({ limits: { rundownMs: 300 } });
      const handle = await lab.prepare();
      const before = lab.elsewhere();
      await lab.behave({ faults: { [request]: 'silence' } });
      const interruption = new AbortController();
      const started = lab.backend.start({ state: 'stopped', handle }, { ...quiet, signal: interruption.signal });
      const log = join(handle.directory, 'propolis.log');
      await expect
        .poll(() => readFile(log, 'utf8').catch(() => ''), { timeout: 20_000 })
        .toContain('silence in place of an answer');
      interruption.abort();
      await expect(started).rejects.toMatchObject({ code: 'ABORTED' });
      expect([await lab.processes(handle), lab.elsewhere()]).toEqual([[], before]);
    },
  );
});

function start(lab: PropolisLab, handle: VmHandle): Promise<RunningVm> {
  lab.host.state.neighbours = { [handle.mac ?? '']: '192.168.1.7' };
  return lab.backend.start({ state: 'stopped', handle }, quiet);
}
