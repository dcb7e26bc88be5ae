import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { MachineRoom, PROGRAM, finish } from '../support/machine-room.js';

/** Runs vmctl with that as its stdout. */
async function writingTo(room: MachineRoom, path: string, words: readonly string[]) {
  await using file = await open(path, 'w');
  const child = spawn(process.execPath, [PROGRAM, ...words], {
    cwd: room.project,
    env: { ...process.env, ...room.variables, VMCTL_BACKEND: 'noop' },
    stdio: ['ignore', file.fd, 'pipe'],
  });
  return await finish(child);
}

test('what cannot be written to stdout is told once and fails the command, which is done all the same', async () => {
  await using room = await MachineRoom.open();
  await room.write('nothing.raw', '\0'.repeat(1024 * 1024));
  await room.write('VMFile.kdl', 'vm "web" { image "nothing.raw" }');
  const told = 'error: cannot write to stdout: no space left on device\n';
  expect(await writingTo(room, '/dev/full', ['up', '--json'])).toMatchObject({ exitCode: 1 });
  expect(await room.states()).toEqual({ web: 'running' });
  await room.write('../data/vmctl/vms/web/console.log', 'a line\n');
  for (const words of [
    ['list'],
    ['status', 'web'],
    ['log', 'web'],
    ['up', '--dry-run'],
    ['up', '--json'],
    ['validate', '--json'],
    ['image', 'presets'],
    ['completion', 'bash'],
    ['gc', '--dry-run', '--json'],
    ['--version'],
    ['--help'],
    ['up', '--help'],
  ]) {
    const { exitCode, stderr } = await writingTo(room, '/dev/full', words);
    expect({ words, exitCode, times: stderr.split(told).length - 1 }).toEqual({ words, exitCode: 1, times: 1 });
  }
  // The command's own failure says more.
  expect((await writingTo(room, '/dev/full', ['doctor', '--json', '--file', 'x'])).stderr).toContain(told);
  await room.write('VMFile.kdl', 'vm "web" { }');
  expect((await writingTo(room, '/dev/full', ['validate', '--json'])).exitCode).toBe(3);
});

test('a reader who goes away is no failure', async () => {
  await using room = await MachineRoom.open();
  const child = room.start(['--help']);
  child.stdout?.destroy();
  expect(await finish(child)).toMatchObject({ exitCode: 0, stderr: '' });
});
