/** What the presets take from the process of a test runner, and leave in it. */
import { Socket } from 'node:net';

/** As `vmctl run` has it: a path that `attach` takes. */
const CONNECTION_VARIABLE = 'VMCTL_CONNECTION';

/** The file that tells of VMs that somebody has brought up already; null where nobody has. */
export function givenConnection(): string | null {
  const path = process.env[CONNECTION_VARIABLE];
  return path === undefined || path === '' ? null : path;
}

/** A test runner's stdout may be a report that a program reads. */
export function printLine(text: string): void {
  process.stderr.write(`vmctl: ${text}\n`);
}

/** Processes that this one starts from now on find these VMs; null: none. */
export function giveConnection(path: string | null): void {
  if (path === null) delete process.env[CONNECTION_VARIABLE];
  else process.env[CONNECTION_VARIABLE] = path;
}

/** The program that this process runs, which for node's test runner is the test file. */
export function mainFile(): string {
  return process.argv[1] ?? '';
}

/**
 * Ends this process, which has VMs of its own, when the runner that has started it is gone, killed, say: nobody waits
 * for it any more. Runners talk to their processes by node's channel; node's own test runner holds the other end of a
 * test file's stdin, and tells the file by a variable that it does.
 */
export function endWithRunner(): void {
  // Vitest puts another function in the place of process.exit.
  const end = (): boolean => process.kill(process.pid, 'SIGKILL');
  if (process.connected) process.once('disconnect', end);
  const { stdin } = process;
  if (process.env['NODE_TEST_CONTEXT'] === undefined || !(stdin instanceof Socket)) return;
  stdin.once('end', end).resume();
  stdin.unref();
}
