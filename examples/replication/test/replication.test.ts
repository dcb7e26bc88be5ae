import { expect } from 'vitest';
import type { RunningVm } from 'vmctl';
import { test } from 'vmctl/vitest/test';

const keysOf = (phase: string): readonly string[] => Array.from({ length: 50 }, (_, i) => `${phase}:${i}`);

async function redis(vm: RunningVm, commands: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await vm.exec('redis-cli', { stdin: `${commands.join('\n')}\n`, timeout: '5m' });
  return stdout.trimEnd().split('\n');
}

/** Writes 50 values; gives how many replicas have them, having waited until as many have them as are named. */
async function write(vm: RunningVm, phase: string, replicas: number): Promise<number> {
  const answers = await redis(vm, [...keysOf(phase).map((key) => `set ${key} value-of-${key}`), `wait ${replicas} 0`]);
  expect(answers.slice(0, -1)).toEqual(keysOf(phase).map(() => 'OK'));
  return Number(answers.at(-1));
}

/** How many of the 50 values of a phase a machine has. */
async function count(vm: RunningVm, phase: string): Promise<number> {
  const values = await redis(
    vm,
    keysOf(phase).map((key) => `get ${key}`),
  );
  return keysOf(phase).filter((key, i) => values[i] === `value-of-${key}`).length;
}

test('a pulled cable and a power cut lose nothing that was acknowledged', async ({ vms }) => {
  const primary = vms.get('primary');
  const [near, far] = vms.group('replica');
  if (near === undefined || far === undefined) throw new Error('there are not two replicas');
  expect(await write(primary, 'before', 2)).toBe(2);

  await far.disconnect('lan');
  expect(await write(primary, 'apart', 1)).toBe(1);
  expect(await count(far, 'apart')).toBe(0);

  const off = await primary.crash();
  expect([await count(near, 'before'), await count(near, 'apart')]).toEqual([50, 50]);

  const [restarted] = await Promise.all([off.start(), far.connect('lan')]);
  expect(await write(restarted, 'after', 2)).toBe(2);
  for (const vm of [restarted, near, far]) {
    const counts = [await count(vm, 'before'), await count(vm, 'apart'), await count(vm, 'after')];
    expect([vm.name, ...counts]).toEqual([vm.name, 50, 50, 50]);
  }
});
