/** The QEMU of this host, for tests that need the real thing. */
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { expect } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { type DetachedProcess, startDetached } from '../../src/util/exec.js';
import { identifyProcess, isSameProcess, signalProcess } from '../../src/util/process.js';
import { connectUnixSocket } from '../../src/util/unix-socket.js';

/** Its path. A QEMU that is missing fails the test with the way to get it. */
export async function qemuBinary(): Promise<string> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, 'qemu-system-x86_64');
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  throw new Error('this test runs qemu-system-x86_64: install it (Debian: apt-get install qemu-system-x86)');
}

export interface Machine extends AsyncDisposable {
  readonly qmp: string;
}

/** A QEMU with a QMP socket and no machine in it. */
export async function startMachine(directory: string): Promise<Machine> {
  const words = ['-nodefaults', '-machine', 'none', '-display', 'none', '-netdev', 'user,id=net0'];
  const socket = `unix:${VM_FILES.qmpSocket},server=on,wait=off`;
  const logFile = join(directory, VM_FILES.qemuLog);
  const qemu = await startDetached(await qemuBinary(), [...words, '-qmp', socket], { cwd: directory, logFile });
  const qmp = join(directory, VM_FILES.qmpSocket);
  // The socket is there a moment before anybody listens on it.
  await expect.poll(() => listens(qmp), { timeout: 10_000 }).toBe(true);
  return { qmp, [Symbol.asyncDispose]: () => kill(qemu) };
}

async function listens(path: string): Promise<boolean> {
  const socket = await connectUnixSocket(path).catch(() => null);
  socket?.destroy();
  return socket !== null;
}

async function kill({ pid, ended }: DetachedProcess): Promise<void> {
  const identity = await identifyProcess(pid);
  if (identity !== null) await signalProcess(identity, 'SIGKILL');
  await ended;
}

/** Settles when the process is gone. */
export async function awaitEnd(pid: number): Promise<void> {
  const identity = await identifyProcess(pid);
  if (identity !== null) await expect.poll(() => isSameProcess(identity), { timeout: 10_000 }).toBe(false);
}
