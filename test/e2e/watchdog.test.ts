/** Programs with real guests that end in every way, at every moment: nothing of theirs may be left three seconds later. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir, readlink } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { Programs } from '../support/programs.js';

async function program(rest: string): Promise<string> {
  const image = JSON.stringify(await guestImage('pocket'));
  return `
    import { up } from 'vmctl';
    const vm = { image: ${image}, memory: 256 };
    const onEvent = ({ vm, step, type }) => console.log('event', vm, step, type);
    const vms = await up({ vms: { web: { ...vm, provision: [{ inline: 'sleep 1' }] }, db: vm }, onEvent });
    console.log('up');
    ${rest}`;
}

/** Directories of runs, and QEMUs that work, or worked, in one. */
async function left(programs: Programs): Promise<readonly string[]> {
  const found = [...(await programs.runs())];
  for (const entry of await readdir('/proc')) {
    const directory = await readlink(`/proc/${entry}/cwd`).catch(() => '');
    const name = await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '');
    if (directory.startsWith(programs.root) && name.startsWith('qemu')) found.push(`qemu ${entry}`);
  }
  return found;
}

async function until(child: ChildProcess, wanted: string): Promise<void> {
  if (child.stdout === null) throw new Error('the program has no stdout');
  for await (const line of createInterface({ input: child.stdout })) if (line === wanted) return;
  throw new Error(`the program ended before it said "${wanted}"`);
}

const FOR_EVER = 'setInterval(() => {}, 1000);';

test.each([
  ['ends', '', 0],
  ['throws', 'throw new Error("oops");', 1],
])('a program that %s', async (_how, rest, code) => {
  await using programs = await Programs.create();
  const child = await programs.start(await program(`console.log((await vms.web.exec('hostname')).stdout); ${rest}`));
  child.stdout?.resume();
  await once(child, 'exit');
  expect(child.exitCode).toBe(code);
  expect(await programs.areGone(() => left(programs))).toBe(true);
});

test.each<[NodeJS.Signals, string]>([
  ['SIGINT', 'up'],
  ['SIGTERM', 'up'],
  ['SIGKILL', 'up'],
  ['SIGKILL', 'event web prepare started'],
  ['SIGKILL', 'event web prepare done'],
  ['SIGKILL', 'event web start started'],
  ['SIGKILL', 'event db start done'],
  ['SIGTERM', 'event web provision started'],
])('a program that gets %s at "%s"', async (signal, moment) => {
  await using programs = await Programs.create();
  const child = await programs.start(await program(FOR_EVER));
  await until(child, moment);
  child.kill(signal);
  await once(child, 'exit');
  expect(child.signalCode).toBe(signal);
  expect(await programs.areGone(() => left(programs))).toBe(true);
});

test('vmctl run whose command fails, and vmctl run that is killed', async () => {
  await using programs = await Programs.create();
  const image = JSON.stringify(await guestImage('pocket'));
  await programs.write('VMFile.kdl', `vm "web" { image ${image}; memory 256; cloud-init; ssh }`);
  const failing = programs.vmctl(['run', '--', 'sh', '-c', 'ssh -F "$VMCTL_SSH_CONFIG" web "exit 42"']);
  failing.stdout?.resume();
  failing.stderr?.resume();
  await once(failing, 'exit');
  expect(failing.exitCode).toBe(42);
  expect(await left(programs)).toEqual([]);

  const killed = programs.vmctl(['run', '--', 'sh', '-c', 'echo ready; while kill -0 $PPID; do sleep 0.1; done']);
  killed.stderr?.resume();
  await until(killed, 'ready');
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  expect(await programs.areGone(() => left(programs))).toBe(true);
});

test('a program that keeps its warm VMs finds the same guest the next time, still booted', async () => {
  await using programs = await Programs.create();
  const image = JSON.stringify(await guestImage('pocket'));
  const source = `
    import { up } from 'vmctl';
    const vms = await up({ vms: { web: { image: ${image}, memory: 256 } }, reuse: true });
    console.log((await vms.web.exec('cat /proc/sys/kernel/random/boot_id')).stdout);`;
  const bootId = async (): Promise<string> => {
    const child = await programs.start(source);
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await once(child, 'close');
    return text.trim();
  };
  const first = await bootId();
  expect(first).toMatch(/^[0-9a-f-]{36}$/);
  expect(await bootId()).toBe(first);
  await once(programs.vmctl(['gc', '--kept']), 'exit');
  expect(await left(programs)).toEqual([]);
});
