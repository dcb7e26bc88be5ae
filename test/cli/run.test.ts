import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { finish } from '../support/machine-room.js';
import { Programs } from '../support/programs.js';

const NOOP = { VMCTL_BACKEND: 'noop' };

async function project(): Promise<Programs> {
  const programs = await Programs.create();
  await programs.write('VMFile.kdl', 'vm "web" { image "disk.raw" }\nvm "db" { image "disk.raw" }');
  return programs;
}

test('run brings VMs up for a command, tells it how to reach them, and passes its exit code on', async () => {
  await using programs = await project();
  const script = 'cat "$VMCTL_CONNECTION"; stat -c %a "$VMCTL_CONNECTION" >&2; test -f "$VMCTL_SSH_CONFIG"; exit 7';
  const result = await finish(programs.vmctl(['run', 'web', '--', 'sh', '-c', script], NOOP));
  expect(result.exitCode).toBe(7);
  expect(JSON.parse(result.stdout)).toMatchObject({ schemaVersion: 1, vms: { web: {} } });
  expect(result.stderr).toContain('\n600\n');
  expect(await programs.runs()).toEqual([]);
});

test.each([
  [['run', '--', 'sh', '-c', 'kill -9 $$'], 137, ''],
  [['run', '--', 'no-such-program'], 127, 'no-such-program is not installed or not in PATH'],
  [['run', 'web'], 2, 'there is no command to run'],
  [['run', 'wbe', '--', 'true'], 1, 'the VMFile has no VM "wbe"'],
])('%j has exit code %d', async (words, code, expected) => {
  await using programs = await project();
  const { exitCode, stderr } = await finish(programs.vmctl(words, NOOP));
  expect(exitCode).toBe(code);
  expect(stderr).toContain(expected);
  expect(await programs.runs()).toEqual([]);
});

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  '%s is handed to the command, whose answer counts',
  async (signal) => {
    await using programs = await project();
    const name = signal.slice(3);
    const script = `trap 'exit 9' ${name}; echo ready; while :; do sleep 0.05; done`;
    const child = programs.vmctl(['run', '--', 'sh', '-c', script], NOOP);
    if (child.stdout === null) throw new Error('vmctl has no stdout');
    for await (const line of createInterface({ input: child.stdout })) {
      if (line === 'ready') child.kill(signal);
    }
    if (child.exitCode === null) await once(child, 'exit');
    expect(child.exitCode).toBe(9);
    expect(await programs.runs()).toEqual([]);
  },
);

test('kill -9 of vmctl run leaves nothing', async () => {
  await using programs = await project();
  const child = programs.vmctl(['run', '--', 'sh', '-c', 'echo ready; while kill -0 $PPID; do sleep 0.1; done'], NOOP);
  child.stdout?.once('data', () => child.kill('SIGKILL'));
  await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
  expect(await programs.areGone()).toBe(true);
});

test('with --keep the VMs stay, and run tells where', async () => {
  await using programs = await project();
  const { stderr } = await finish(programs.vmctl(['run', '--keep', '--', 'true'], NOOP));
  const [id = ''] = await programs.runs();
  expect(stderr).toContain(`VMCTL_STATE=${programs.paths.run(id)} vmctl list`);
});
