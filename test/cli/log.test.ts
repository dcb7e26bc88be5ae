import { appendFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Rig, gate } from '../support/rig.js';

async function withVm(): Promise<{ rig: Rig; log: string } & AsyncDisposable> {
  const rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  const log = join(rig.paths.vm('web'), 'console.log');
  return { rig, log, [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose]() };
}

test('log --follow shows what is there and what is added, also after a stop and a start, until the VM is destroyed', async () => {
  await using vm = await withVm();
  await writeFile(vm.log, 'one\ntwo\n');
  const begun = gate();
  const follower = vm.rig.vmctl(['log', 'web', '-f', '--tail', '1'], { onOutput: () => begun.open() });
  await begun.passed;
  await vm.rig.vmctl(['stop', 'web']);
  await vm.rig.vmctl(['start', 'web']);
  await appendFile(vm.log, 'three\n');
  await rename(vm.log, `${vm.log}.1`);
  await writeFile(vm.log, 'four\nlogin: ');
  await vm.rig.vmctl(['destroy', 'web']);
  const { exitCode, stdout, stderr } = await follower;
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'two\nthree\nfour\nlogin: ' });
  expect(stderr).toBe('note: VM "web" was destroyed\n');
});

test('log --follow says that it waits for a log that is not there yet', async () => {
  await using vm = await withVm();
  const begun = gate();
  const follower = vm.rig.vmctl(['log', 'web', '--follow', '--provision'], { onOutput: () => begun.open() });
  await begun.passed;
  await vm.rig.vmctl(['destroy', 'web']);
  expect(await follower).toEqual({
    exitCode: 0,
    stdout: '',
    stderr: 'note: VM "web" has no provision log yet; waiting for it\nnote: VM "web" was destroyed\n',
  });
});

test('Ctrl-C ends log --follow with exit code 130 and no words of failure', async () => {
  await using vm = await withVm();
  await writeFile(vm.log, 'one\n');
  const interrupt = new AbortController();
  const extras = { signal: interrupt.signal, onOutput: () => interrupt.abort() };
  expect(await vm.rig.vmctl(['log', 'web', '-f'], extras)).toEqual({ exitCode: 130, stdout: 'one\n', stderr: '' });
});

test('a log’s bytes are passed on as they are', async () => {
  await using vm = await withVm();
  const text = `${'ü'.repeat(40_000)}\r\n\u001b[31mred\u001b[0m\n`;
  await writeFile(vm.log, text);
  expect((await vm.rig.vmctl(['log', 'web'])).stdout).toBe(text);
});
