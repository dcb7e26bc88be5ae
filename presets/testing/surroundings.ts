/** What the presets take from the process of a test runner, and leave in it. */

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
