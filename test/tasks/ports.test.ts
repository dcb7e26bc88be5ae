import { expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { onSamePorts } from '../../tasks/ports.js';

const BEFORE = [{ host: 40_123, guest: 22 }];

/** With what a VM was started, one after the other; the first start fails as it is told to. */
async function starts(before: typeof BEFORE, problem: string | null) {
  const asked: unknown[] = [];
  const outcome = await onSamePorts(before, async (ports) => {
    asked.push(ports);
    if (problem !== null && asked.length === 1) throw new VmctlError('QEMU_START', problem);
    return 'running';
  }).catch((error: unknown) => String(error));
  return { asked, outcome };
}

test('a VM has the ports that it had', async () => {
  expect(await starts(BEFORE, null)).toEqual({ asked: [{ forwards: BEFORE }], outcome: 'running' });
  expect(await starts([], null)).toEqual({ asked: [{}], outcome: 'running' });
});

test('where somebody else has taken one meanwhile, it has others, and what else goes wrong is told', async () => {
  const taken = "VM did not start: Could not set up host forwarding rule 'tcp:127.0.0.1:40123-:22'";
  expect(await starts(BEFORE, taken)).toEqual({ asked: [{ forwards: BEFORE }, {}], outcome: 'running' });
  const other = await starts(BEFORE, 'no power');
  expect(other).toEqual({ asked: [{ forwards: BEFORE }], outcome: 'VmctlError: no power' });
});
