/** The QEMU backend on the real QEMU: what it starts, how it ends, and what it says when it cannot. */
import { link, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { connectQmp } from '../../src/hypervisor/qemu/qmp.js';
import type { RunningVm } from '../../src/model/vm.js';
import { runCommand } from '../../src/util/exec.js';
import { connectUnixSocket } from '../../src/util/unix-socket.js';
import { listening, quiet, resolvedVm, temporaryDirectory } from '../support/fixtures.js';
import { checksum, fileOf, openQemuLab } from './lab.js';
import { awaitEnd } from './real-qemu.js';

async function monitor(vm: RunningVm, command: string): Promise<string> {
  const qmp = await connectQmp(fileOf(vm.handle, 'qmpSocket'));
  try {
    return await qmp.monitor(command);
  } finally {
    qmp.close();
  }
}

/**
 * A disk whose boot sector copies itself to the second sector and then prints a W on the serial console:
 * `mov ax,0x0301; mov cx,2; mov dh,0; xor bx,bx; mov es,bx; mov bx,0x7c00; int 0x13; mov dx,0x3f8; mov al,'W';
 * out dx,al; l: hlt; jmp l`
 */
function bootDisk(bytes: number): Uint8Array {
  const disk = new Uint8Array(bytes);
  disk.set([0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0x31, 0xdb, 0x8e, 0xc3, 0xbb, 0x00, 0x7c, 0xcd, 0x13]);
  disk.set([0xba, 0xf8, 0x03, 0xb0, 0x57, 0xee, 0xf4, 0xeb, 0xfd], 17);
  disk.set([0x55, 0xaa], 510);
  return disk;
}

async function takePort(): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port }: AddressInfo = Object.assign({ port: 0, address: '', family: '' }, server.address());
  return { port, [Symbol.asyncDispose]: async () => void server.close() };
}

describe('a QEMU that was started', () => {
  test('is a process of its own with the VM’s files, and SSH on a port that the kernel chose', async () => {
    await using lab = await openQemuLab();
    const vm = await lab.run();
    expect(await lab.processes(vm.handle)).toEqual([expect.objectContaining({ pid: vm.pid })]);
    expect(await readdir(vm.handle.directory)).toEqual(
      expect.arrayContaining(['console.log', 'console.sock', 'overlay.qcow2', 'pidfile', 'qmp.sock', 'seed.iso']),
    );
    expect(vm).toMatchObject({ accelerator: 'tcg', ssh: { host: '127.0.0.1' }, forwards: [{ guest: 22 }] });
    expect(vm.ssh?.port).toBe(vm.forwards[0]?.host);
    expect(await readFile(fileOf(vm.handle, 'pidfile'), 'utf8')).toBe(`${vm.pid}\n`);
  });

  test('has the forwards that were declared, on 127.0.0.1 alone', async () => {
    await using free = await takePort();
    const { port } = free;
    await free[Symbol.asyncDispose]();
    await using lab = await openQemuLab();
    const forwards = [
      { host: port, guest: 80 },
      { host: 0, guest: 443 },
    ];
    const vm = await lab.run({ network: { kind: 'user', forwards, lan: null } });
    expect(vm.forwards).toHaveLength(3);
    expect(vm.forwards).toContainEqual({ host: port, guest: 80 });
    const listens = (await monitor(vm, 'info usernet')).matchAll(/HOST_FORWARD\]\s+\d+\s+(\S+)/g);
    expect(new Set([...listens].map(([, address]) => address))).toEqual(new Set(['127.0.0.1']));
  });

  test('works where its directory has a long path with spaces, commas, quotes and line breaks in it', async () => {
    await using lab = await openQemuLab({ folder: join(`a, b=c "d" 'e' $(f)\n%s:\\`, 'x'.repeat(120), '..hidden') });
    const before = await checksum(lab.image.path);
    const vm = await lab.run();
    expect(vm.state).toBe('running');
    const serial = lab.backend.console(vm.handle);
    (await connectUnixSocket(serial.kind === 'unix' ? serial.path : '')).destroy();
    expect(await lab.backend.stop(vm, { graceMs: 0 }, quiet)).toBe('SIGTERM');
    await lab.backend.destroy(vm.handle, quiet);
    expect(await checksum(lab.image.path)).toBe(before);
  });

  test('never writes the base image: what the guest writes is in the overlay, and what it says in the console log', async () => {
    await using lab = await openQemuLab();
    const raw = `${lab.image.path}.raw`;
    await writeFile(raw, bootDisk(lab.image.virtualBytes));
    await runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, lab.image.path]);
    const before = await checksum(lab.image.path);
    const vm = await lab.run();
    await expect.poll(() => readFile(fileOf(vm.handle, 'consoleLog'), 'latin1'), { timeout: 20_000 }).toContain('W');
    await lab.backend.stop(vm, { graceMs: 0 }, quiet);
    expect(await checksum(lab.image.path)).toBe(before);
    await runCommand('qemu-img', ['convert', '-O', 'raw', fileOf(vm.handle, 'overlay'), raw]);
    const disk = await readFile(raw);
    expect(disk.subarray(512, 1024)).toEqual(disk.subarray(0, 512));
  });

  test('keeps its MAC address and its disk through a stop and a start', async () => {
    await using lab = await openQemuLab();
    const first = await lab.run();
    expect(await monitor(first, 'info network')).toContain(`macaddr=${first.handle.mac}`);
    await lab.backend.stop(first, { graceMs: 0 }, quiet);
    const second = await lab.backend.start({ state: 'stopped', handle: first.handle }, quiet);
    expect(second.pid).not.toBe(first.pid);
    expect(await monitor(second, 'info network')).toContain(`macaddr=${first.handle.mac}`);
  });
});

describe('a QEMU that is to end', () => {
  test('is given its grace, and is ended by SIGTERM when the guest does not power off', async () => {
    await using lab = await openQemuLab();
    const vm = await lab.run();
    const start = performance.now();
    expect(await lab.backend.stop(vm, { graceMs: 250 }, quiet)).toBe('SIGTERM');
    expect(performance.now() - start).toBeGreaterThan(240);
    expect(await lab.processes(vm.handle)).toEqual([]);
  });

  test('counts as powered off by the guest when it ends within its grace', async () => {
    await using lab = await openQemuLab();
    const vm = await lab.run();
    const status = (): void => void process.kill(vm.pid ?? 0, 'SIGTERM');
    const context = { ...quiet, reporter: { ...quiet.reporter, status } };
    expect(await lab.backend.stop(vm, { graceMs: 20_000 }, context)).toBe('guest');
  });

  test('is ended by SIGKILL when it hangs', async () => {
    await using lab = await openQemuLab();
    const vm = await lab.run();
    process.kill(vm.pid ?? 0, 'SIGSTOP');
    expect(await lab.backend.stop(vm, { graceMs: 0 }, quiet)).toBe('SIGKILL');
    expect(await lab.processes(vm.handle)).toEqual([]);
  });

  test('goes on when the stop is cancelled during its grace', async () => {
    await using lab = await openQemuLab();
    const vm = await lab.run();
    const controller = new AbortController();
    const reporter = { ...quiet.reporter, status: () => controller.abort() };
    const stop = lab.backend.stop(vm, { graceMs: 20_000 }, { signal: controller.signal, reporter });
    await expect(stop).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await lab.backend.observe(vm.handle)).toEqual(vm);
  });
});

describe('a start that fails', () => {
  test('on a port that is taken carries QEMU’s words and a hint, and leaves nothing running', async () => {
    await using taken = await takePort();
    await using lab = await openQemuLab();
    const handle = await lab.prepare({
      network: { kind: 'user', forwards: [{ host: taken.port, guest: 80 }], lan: null },
    });
    const words = `Could not set up host forwarding rule 'tcp:127.0.0.1:${taken.port}-:80'`;
    await expect(lab.backend.start({ state: 'stopped', handle }, quiet)).rejects.toMatchObject({
      code: 'QEMU_START',
      message: expect.stringMatching(/^VM "web" did not start: QEMU exited with code 1: qemu-system-x86_64: .*/),
      hint: 'Another program uses that port. Change the "forward" in the VMFile, or use 0 for a free port.',
    });
    expect(await readFile(fileOf(handle, 'qemuLog'), 'utf8')).toContain(words);
    expect(await lab.processes(handle)).toEqual([]);
    expect((await lab.backend.observe(handle)).state).toBe('stopped');
  });

  test('on a disk that another QEMU has open says so', async () => {
    await using lab = await openQemuLab();
    const { handle } = await lab.run();
    const copy = { ...handle, directory: lab.paths.vm('other'), uuid: '00000000-0000-4000-8000-000000000000' };
    await mkdir(copy.directory);
    await link(fileOf(handle, 'overlay'), fileOf(copy, 'overlay'));
    await expect(lab.backend.start({ state: 'stopped', handle: copy }, quiet)).rejects.toMatchObject({
      code: 'QEMU_START',
      hint: 'Another QEMU has this disk open. Find it with: pgrep -af qemu-system',
    });
    expect(await lab.processes(copy)).toEqual([]);
  });

  test('by the user’s own arguments carries QEMU’s words', async () => {
    await using lab = await openQemuLab({ extraArguments: ['-no-such-option'] });
    await expect(lab.run()).rejects.toMatchObject({
      code: 'QEMU_START',
      message: 'VM "web" did not start: QEMU exited with code 1: qemu-system-x86_64: -no-such-option: invalid option',
    });
  });

  test('by cancellation leaves nothing running', async () => {
    await using lab = await openQemuLab();
    const handle = await lab.prepare();
    const start = lab.backend.start({ state: 'stopped', handle }, { ...quiet, signal: AbortSignal.abort() });
    await expect(start).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await lab.processes(handle)).toEqual([]);
    expect((await lab.backend.start({ state: 'stopped', handle }, quiet)).state).toBe('running');
  });

  test('because its directory cannot be written leaves nothing running', async () => {
    await using lab = await openQemuLab();
    const handle = await lab.prepare();
    await mkdir(fileOf(handle, 'qemuLog'));
    const start = lab.backend.start({ state: 'stopped', handle }, quiet);
    await expect(start).rejects.toMatchObject({ code: 'STATE_DIRECTORY' });
    expect(await lab.processes(handle)).toEqual([]);
  });
});

describe('a host', () => {
  test('without QEMU is told what to install', async () => {
    await using directory = await temporaryDirectory();
    await using lab = await openQemuLab({ binary: null, searchPath: directory.path });
    await expect(lab.backend.checkHost(quiet)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: 'qemu-system-x86_64 was not found',
      hint: expect.stringContaining('apt-get install qemu-system-x86 qemu-utils'),
    });
  });

  test('without the QEMU that is configured is told to look at the setting', async () => {
    await using lab = await openQemuLab({ binary: '/nowhere/qemu' });
    await expect(lab.backend.checkHost(quiet)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: '/nowhere/qemu was not found',
      hint: 'Check the setting qemu.binary (VMCTL_QEMU_BINARY).',
    });
  });

  test('whose QEMU is found in PATH is fine, and the user’s wish to emulate is no reason for a note', async () => {
    await using lab = await openQemuLab({ binary: null, searchPath: `/nonexistent:${process.env['PATH'] ?? ''}` });
    const context = listening();
    await lab.backend.checkHost(context);
    expect(context.lines).toEqual([]);
  });
});

test('a preparation that is cancelled while qemu-img works leaves nothing', async () => {
  await using lab = await openQemuLab();
  const controller = new AbortController();
  const vm = resolvedVm(lab.image);
  const places = { directory: lab.paths.vm('web'), staging: lab.paths.vmStaging('web') };
  const preparing = lab.backend
    .prepare(vm, places, { ...quiet, signal: controller.signal })
    .catch((error: unknown) => error);
  await expect.poll(() => lab.left(), { interval: 1 }).toEqual(['.staging-web']);
  controller.abort();
  expect(await preparing).toMatchObject({ code: 'ABORTED' });
  expect(await lab.left()).toEqual([]);
});

test('a QEMU that is killed from outside shows as stopped, and starts again', async () => {
  await using lab = await openQemuLab();
  const vm = await lab.run();
  process.kill(vm.pid ?? 0, 'SIGKILL');
  await awaitEnd(vm.pid ?? 0);
  expect(await lab.backend.observe(vm.handle)).toEqual({ state: 'stopped', handle: vm.handle, crash: { log: '' } });
  expect((await lab.backend.start({ state: 'stopped', handle: vm.handle }, quiet)).state).toBe('running');
});

test('a QEMU that crashes leaves its last words, and one that fails to start or is stopped is no crash', async () => {
  await using lab = await openQemuLab();
  const vm = await lab.run();
  await writeFile(fileOf(vm.handle, 'qemuLog'), 'qemu: starting\nqemu: assertion failed\n');
  process.kill(vm.pid ?? 0, 'SIGKILL');
  await awaitEnd(vm.pid ?? 0);
  expect(await lab.backend.observe(vm.handle)).toMatchObject({
    crash: { log: 'qemu: starting\nqemu: assertion failed' },
  });
  const again = await lab.backend.start({ state: 'stopped', handle: vm.handle }, quiet);
  process.kill(again.pid ?? 0, 'SIGSTOP');
  await lab.backend.stop(again, { graceMs: 0 }, quiet);
  expect(await lab.backend.observe(vm.handle)).toEqual({ state: 'stopped', handle: vm.handle });
  const failing = await lab.prepare({ name: 'many', vcpus: 1024 });
  await expect(lab.backend.start({ state: 'stopped', handle: failing }, quiet)).rejects.toMatchObject({
    code: 'QEMU_START',
    hint: expect.stringMatching(
      /^A machine has \d+ vCPUs at most with this QEMU\. Lower "vcpus" in the VMFile, then run: vmctl reload many$/,
    ),
  });
  expect(await lab.backend.observe(failing)).toEqual({ state: 'stopped', handle: failing });
});

test('a disk that is gone is told with the next step', async () => {
  await using lab = await openQemuLab();
  const handle = await lab.prepare();
  await lab.backend.checkDisk(handle);
  await rm(fileOf(handle, 'overlay'));
  await expect(lab.backend.checkDisk(handle)).rejects.toMatchObject({
    code: 'VM_DAMAGED',
    message: `VM "web" is damaged: its disk ${fileOf(handle, 'overlay')} is missing`,
    hint: expect.stringContaining('vmctl reload web'),
  });
});

test('a QEMU whose QMP socket another client holds shows as running, with the ports that were recorded', async () => {
  await using lab = await openQemuLab();
  const vm = await lab.run();
  const other = await connectQmp(fileOf(vm.handle, 'qmpSocket'));
  expect(await lab.backend.observe(vm.handle)).toEqual(vm);
  other.close();
});

test('a cable that QEMU refuses to pull is not told of as one that is out', async () => {
  await using lab = await openQemuLab();
  const vm = await lab.run();
  await lab.backend.setLink(vm, { nic: 'outside', up: false }, quiet);
  await expect(lab.backend.setLink(vm, { nic: 'lan', up: false }, quiet)).rejects.toMatchObject({
    code: 'QMP',
    message: "QEMU refused set_link: Device 'lan0' not found",
  });
  expect(await lab.backend.observe(vm.handle)).toMatchObject({ unplugged: ['outside'] });
});
