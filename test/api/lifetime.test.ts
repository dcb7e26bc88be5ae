/** How the VMs of a program end with it: real processes on the built package, on the Noop backend. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { finish } from '../support/machine-room.js';
import { Programs } from '../support/programs.js';

const UP = `
  import { up } from 'vmctl';
  const vms = await up({ vms: { web: { image: 'disk.raw' } }, backend: 'noop' });
  console.log('up', vms.stateDirectory);`;

/** Settles when the program has printed that its VMs are up. */
async function whenUp(child: ChildProcess): Promise<void> {
  if (child.stdout === null) throw new Error('the program has no stdout');
  for await (const line of createInterface({ input: child.stdout })) if (line.startsWith('up')) return;
  throw new Error('the program ended before its VMs were up');
}

const watchdogs = async (programs: Programs): Promise<readonly number[]> => {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    const words = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    if (/watchdog\.js\0/.test(words) && words.includes(programs.paths.root)) found.push(Number(entry));
  }
  return found;
};

test.each([
  ['ends by itself, although the VMs are up', '', 0],
  ['throws', 'throw new Error("oops");', 1],
  ['calls process.exit', 'process.exit(5);', 5],
])('a program that %s leaves nothing', async (_how, rest, code) => {
  await using programs = await Programs.create();
  const { exitCode, stdout } = await finish(await programs.start(`${UP}${rest}`));
  expect(stdout).toContain(programs.paths.runs);
  expect(exitCode).toBe(code);
  expect(await programs.areGone()).toBe(true);
  // It ends just after it has removed the last.
  await expect.poll(() => watchdogs(programs)).toEqual([]);
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGKILL'] as const)(
  'a program that gets %s leaves nothing',
  async (signal) => {
    await using programs = await Programs.create();
    const child = await programs.start(`${UP} setInterval(() => {}, 1000);`);
    await whenUp(child);
    child.kill(signal);
    await once(child, 'exit');
    expect(child.signalCode).toBe(signal);
    expect(await programs.areGone()).toBe(true);
  },
);

test('a terminal’s Ctrl-C, which every process of the program gets, does not end the watchdog', async () => {
  await using programs = await Programs.create();
  const child = await programs.start(`${UP} setInterval(() => {}, 1000);`);
  await whenUp(child);
  for (const pid of await watchdogs(programs))
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.kill(pid, signal);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(await programs.areGone()).toBe(true);
});

test('when the watchdog is killed too, gc removes what is left, and so does the next run', async () => {
  await using programs = await Programs.create();
  const orphan = async (): Promise<void> => {
    const child = await programs.start(`${UP} setInterval(() => {}, 1000);`);
    await whenUp(child);
    const [watchdog = Number.NaN] = await watchdogs(programs);
    process.kill(watchdog, 'SIGKILL');
    expect((await finish(programs.vmctl(['gc', '--dry-run']))).stderr).toContain('nothing to remove');
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  await orphan();
  expect(await programs.runs()).toHaveLength(1);
  expect((await finish(programs.vmctl(['list', '--all']))).stderr).toContain('whose program is gone');
  const { stdout } = await finish(programs.vmctl(['gc']));
  expect(stdout).toContain('VMs of node program.mjs');
  expect(await programs.runs()).toEqual([]);

  await orphan();
  const { stdout: next } = await finish(
    await programs.start(`${UP} import { readdirSync } from 'node:fs';
    console.log(readdirSync(${JSON.stringify(programs.paths.runs)}).length);`),
  );
  expect(next.trim().split('\n').at(-1)).toBe('1');
  expect(await programs.areGone()).toBe(true);
});

test('with VMCTL_KEEP=1 the VMs stay; list tells how to work with them, and gc --kept removes them', async () => {
  await using programs = await Programs.create();
  await finish(await programs.start(UP, { VMCTL_KEEP: '1' }));
  const [id = ''] = await programs.runs();
  const list = await finish(programs.vmctl(['list', '--all']));
  const VMCTL_STATE = join(programs.paths.runs, id);
  expect(list.stderr).toContain(`to work with them: VMCTL_STATE=${VMCTL_STATE}`);
  expect(list.stdout).toMatch(/^web +noop +running/m);
  expect((await finish(programs.vmctl(['list'], { VMCTL_STATE }))).stdout).toMatch(/^web +noop +running/m);
  await finish(programs.vmctl(['gc']));
  expect(await programs.runs()).toEqual([id]);
  await finish(programs.vmctl(['gc', '--kept']));
  expect(await programs.runs()).toEqual([]);
});
