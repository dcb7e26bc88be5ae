/** Every request and every command of a start goes wrong in turn, in every way: what was made before is gone again. */
import { describe, expect, test } from 'vitest';
import type { VmHandle } from '../../../src/model/vm.js';
import { quiet } from '../../support/fixtures.js';
import type { Fault } from '../../support/propolis-server.js';
import { type PropolisLab, openPropolisLab } from '../lab.js';

const start = (lab: PropolisLab, handle: VmHandle) => lab.backend.start({ state: 'stopped', handle }, quiet);

const refusal = (status: number, message: string, code?: string): Fault => ({
  status,
  body: JSON.stringify({ request_id: 'r', message, ...(code === undefined ? {} : { error_code: code }) }),
});

const told = (state: string): Fault => ({
  status: 200,
  body: JSON.stringify({ instance: { properties: { id: 'x' }, state } }),
});

/** Answers that no request of a start gets over, with what is said about them. */
const REFUSALS: readonly (readonly [what: string, fault: Fault, words: string])[] = [
  ['400', refusal(400, 'failed to generate internal instance spec: no'), 'internal instance spec: no (HTTP 400)'],
  ['403', refusal(403, 'Forbidden', 'instance state change not allowed: it stops'), ': it stops (HTTP 403)'],
  ['409', refusal(409, 'instance already initialized', 'AlreadyInitialized'), 'already initialized (HTTP 409)'],
  ['500', refusal(500, 'Internal Server Error', 'Internal'), 'Internal Server Error (HTTP 500)'],
  ['500 that is no JSON', { status: 500, body: 'oops' }, 'oops (HTTP 500)'],
  ['503 without a word', { status: 503, body: '' }, 'no reason given (HTTP 503)'],
  ['200 that is none of these', { status: 202, body: '{}' }, '(HTTP 202)'],
  ['a connection that breaks', 'broken', 'propolis-server cannot be reached'],
  ['silence', 'silence', 'propolis-server cannot be reached'],
  ['the end of the server', 'death', 'propolis-server cannot be reached'],
];

const NO_INSTANCE = refusal(424, 'Server not initialized (no instance)', 'NoInstance');

const STATES = ['Stopping', 'Stopped', 'Destroyed', 'Failed'] as const;

const CASES: readonly (readonly [request: string, what: string, fault: Fault, words: string])[] = [
  ...['PUT /instance', 'PUT /instance/state', 'GET /instance again'].flatMap((request) =>
    REFUSALS.map(([what, fault, words]) => [request, what, fault, words] as const),
  ),
  ['PUT /instance', '424', NO_INSTANCE, 'no instance) (HTTP 424)'],
  ['PUT /instance/state', '424', NO_INSTANCE, 'no instance) (HTTP 424)'],
  ['GET /instance again', '424', NO_INSTANCE, 'the VM is Failed right after its start'],
  ...STATES.filter((state) => state !== 'Stopping').map(
    (state) => ['GET /instance again', state, told(state), `the VM is ${state} right after its start`] as const,
  ),
  ['GET /instance again', 'a state for ever', told('Starting'), 'the VM did not come to run within 0.2 s'],
  ['GET /instance again', 'a state that there is not', told('Dreaming'), 'answered something else'],
  ['GET /instance', 'a connection that breaks', 'broken', 'propolis-server did not answer for 1.5 s'],
  ['GET /instance', 'silence', 'silence', 'propolis-server did not answer for 1.5 s'],
  ['GET /instance', 'the end of the server', 'death', 'propolis-server exited with code 1'],
];

/** The VM is as it was before its start: prepared, and nothing runs, and in the reverse of the order of its making. */
async function expectUndone(
  lab: PropolisLab,
  handle: VmHandle,
  before: { readonly belongings: readonly string[]; readonly changes: number },
): Promise<void> {
  expect(await lab.processes(handle)).toEqual([]);
  expect(lab.elsewhere()).toEqual(before.belongings);
  expect(await lab.backend.observe(handle)).toEqual({ state: 'stopped', handle });
  const steps = lab.host.changes.slice(before.changes).map((command) => command.split(' ').slice(0, 2).join(' '));
  const undoing = steps.slice(1);
  expect(steps[0]).toBe('dladm create-vnic');
  expect(undoing.at(-1)).toBe('dladm delete-vnic');
  expect(undoing.slice(0, -1).filter((step) => !/^(?:kill|bhyvectl)/.test(step))).toEqual([]);
}

const noted = (lab: PropolisLab) => ({ belongings: lab.elsewhere(), changes: lab.host.changes.length });

describe('a start of which a request goes wrong', () => {
  test.each(CASES)('leaves nothing running: %s is answered with %s', async (request, _what, ...[fault, words]) => {
    await using lab = await openPropolisLab({
      limits: {
        runMs: 200,
        rundownMs: 300,
        ...(fault === 'silence' ? { answerMs: 100 } : {}),
        ...(request === 'GET /instance' && fault !== 'death' ? { readyMs: 1_500 } : {}),
      },
    });
    const handle = await lab.prepare();
    const before = noted(lab);
    await lab.behave({ faults: { [request]: fault } });
    await expect(start(lab, handle)).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: expect.stringContaining(words),
    });
    await expectUndone(lab, handle, before);
  });

  test('has the kernel forget the VM of a server that has died of it', async () => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    await lab.behave({ faults: { 'PUT /instance/state': 'death' } });
    await expect(start(lab, handle)).rejects.toMatchObject({ code: 'PROPOLIS' });
    expect(lab.host.changes).toContain(`bhyvectl --vm=${handle.uuid} --destroy`);
  });

  test('can be done again when it goes well', async () => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    for (const request of ['PUT /instance', 'PUT /instance/state', 'GET /instance again']) {
      await lab.behave({ faults: { [request]: 'death' } });
      await expect(start(lab, handle)).rejects.toMatchObject({ code: 'PROPOLIS' });
    }
    await lab.behave({});
    expect((await start(lab, handle)).state).toBe('running');
  });
});

describe('a start of which a command of the host goes wrong', () => {
  test('leaves nothing running, whichever it is', async () => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    const first = lab.host.commands.length;
    await lab.backend.stop(await start(lab, handle), { graceMs: 0 }, quiet);
    const [verify] = lab.host.commands.slice(first).flatMap((command, i) => (command.startsWith('arp') ? [i] : []));
    const names = lab.host.commands.slice(first, first + (verify ?? 0));
    expect(names.map((command) => command.split(' ').slice(0, 2).join(' '))).toEqual([
      'dladm show-vnic',
      'dladm show-phys',
      'dladm create-vnic',
      'dladm show-vnic',
    ]);
    const belongings = lab.elsewhere();
    for (const [i, name] of names.entries()) {
      lab.host.failAtCommand = lab.host.commands.length + i;
      await expect(start(lab, handle)).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
      const left = [name, await lab.processes(handle), lab.elsewhere()];
      expect(left).toEqual([name, [], belongings]);
    }
  });
});
