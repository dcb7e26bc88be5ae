/**
 * What somebody may wait for in a guest that can be logged in to: a service, a file, a line on the console. One deadline
 * holds for all of it, and a failure says what was looked for and what was found instead.
 */
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { VmctlError, unreachable } from '../errors.js';
import type { Endpoint } from '../model/vm.js';
import type { SshConnection } from '../ssh/client.js';
import { shellQuote } from '../ssh/shell-quote.js';
import { tailOfFile } from '../util/exec.js';
import { readTextIfPresent } from '../util/fs.js';
import { throwIfAborted, unlessAborted, waitFor, withDeadline } from '../util/wait.js';

export type GuestCondition =
  /** A web server of the guest answers with this status, or with any below 400 where it is null. */
  | { readonly kind: 'http'; readonly port: number; readonly path: string; readonly status: number | null }
  /** Something in the guest listens on this TCP port, on whatever address. */
  | { readonly kind: 'port'; readonly port: number }
  /** A line of the serial console, of everything that it printed since the VM was made. */
  | { readonly kind: 'log'; readonly pattern: RegExp }
  /** A command of the login user's shell exits with 0. */
  | { readonly kind: 'shell'; readonly command: string }
  | { readonly kind: 'file'; readonly path: string }
  /** A systemd unit is active. */
  | { readonly kind: 'unit'; readonly unit: string }
  /** cloud-init has finished its last stage, without errors. */
  | { readonly kind: 'cloud-init' };

export interface ConditionWorld {
  /** The VM's name, for messages. */
  readonly name: string;
  /** A connection that is logged in, the same one each time. */
  readonly connection: () => Promise<SshConnection>;
  /** Where a port of the guest can be reached from this host; null where nothing leads there. */
  readonly forwardOf: (guestPort: number) => Endpoint | null;
  /** Absolute path. */
  readonly consoleLog: string;
  /** Brings it up to date, where nobody writes it while the guest prints. */
  readonly catchUpConsole: () => Promise<unknown>;
}

export interface ConditionOptions {
  /** Milliseconds for all of it. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

const CONSOLE_LINES = 20;

/**
 * Settles when the condition holds. Throws `READY_TIMEOUT` saying what was found last, with the console's last lines,
 * `COMMAND_FAILED` when cloud-init has failed and so will never be done, and `ABORTED`.
 */
export async function waitForCondition(
  condition: GuestCondition,
  world: ConditionWorld,
  { timeoutMs, signal }: ConditionOptions,
): Promise<void> {
  const late = AbortSignal.timeout(timeoutMs);
  const stops = AbortSignal.any([signal, late]);
  let found = 'it was not looked at yet';
  const look = async (): Promise<true | null> => {
    try {
      const problem = await examine(condition, world, stops);
      if (problem === null) return true;
      found = problem;
    } catch (error) {
      throwIfAborted(signal);
      if (!(error instanceof VmctlError) || !PASSING.has(error.code)) throw error;
      if (!late.aborted) found = error.message;
    }
    return null;
  };
  const holds = await waitFor(look, { timeoutMs, signal });
  if (holds !== null) return;
  const what = `VM "${world.name}": ${conditionText(condition)} within ${timeoutMs / 1000} s: ${found}`;
  await world.catchUpConsole().catch(() => {});
  const details = await tailOfFile(world.consoleLog, CONSOLE_LINES);
  throw new VmctlError('READY_TIMEOUT', what, {
    hint: `To see what the guest says: vmctl log ${world.name}`,
    ...(details === '' ? {} : { details }),
    fields: { vm: world.name, condition: condition.kind, timeoutMs },
  });
}

/** What a guest may get over; the others are told at once. */
const PASSING: ReadonlySet<string> = new Set(['SSH_TRANSPORT', 'SSH_AUTHENTICATION', 'TIMEOUT', 'ABORTED', 'PROPOLIS']);

function conditionText(condition: GuestCondition): string {
  switch (condition.kind) {
    case 'http':
      return `GET ${condition.path} on port ${condition.port} was not answered with ${condition.status ?? 'success'}`;
    case 'port':
      return `nothing listened on port ${condition.port}`;
    case 'log':
      return `no line of its console matched ${condition.pattern}`;
    case 'shell':
      return `the command ${JSON.stringify(condition.command)} did not succeed`;
    case 'file':
      return `there was no file ${condition.path}`;
    case 'unit':
      return `the unit ${condition.unit} was not active`;
    case 'cloud-init':
      return 'cloud-init was not done';
    default:
      return unreachable(condition);
  }
}

/** Null when the condition holds, else what is the matter. */
async function examine(condition: GuestCondition, world: ConditionWorld, signal: AbortSignal): Promise<string | null> {
  switch (condition.kind) {
    case 'http':
      return examineHttp(condition, world, signal);
    case 'port':
      return examinePort(condition.port, world, signal);
    case 'log':
      return examineLog(condition.pattern, world);
    case 'shell':
      return examineCommand(condition.command, world, signal);
    case 'file':
      return examineCommand(`test -e ${shellQuote(condition.path)}`, world, signal);
    case 'unit':
      return examineCommand(`systemctl is-active -- ${shellQuote(condition.unit)}`, world, signal);
    case 'cloud-init':
      return examineCloudInit(world, signal);
    default:
      return unreachable(condition);
  }
}

async function examineCommand(command: string, world: ConditionWorld, signal: AbortSignal): Promise<string | null> {
  const { exitCode, output } = await run(command, world, signal);
  if (exitCode === 0) return null;
  const last = output.trim().split('\n').at(-1) ?? '';
  return `${exitCode === null ? 'it was ended by a signal' : `exit code ${exitCode}`}${last === '' ? '' : `, ${last}`}`;
}

/** The kernel's own list says it without a connection that the service would see (proc(5), /proc/net/tcp). */
async function examinePort(port: number, world: ConditionWorld, signal: AbortSignal): Promise<string | null> {
  const { output } = await run('cat /proc/net/tcp /proc/net/tcp6 2>/dev/null', world, signal);
  const address = new RegExp(`^\\s*\\d+: [0-9A-F]+:${port.toString(16).toUpperCase().padStart(4, '0')} \\S+ 0A `, 'm');
  return address.test(output) ? null : 'the guest listens elsewhere only';
}

async function examineLog(pattern: RegExp, { consoleLog, catchUpConsole }: ConditionWorld): Promise<string | null> {
  await catchUpConsole();
  const lines = stripVTControlCharacters((await readTextIfPresent(consoleLog)) ?? '').split(/\r*\n/);
  // Without a memory of where it matched last, as a pattern with the flag "g" has one.
  const fresh = new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, ''));
  return lines.some((line) => fresh.test(line)) ? null : `of ${lines.length - 1} lines`;
}

/** cloud-init writes this file at the end of its last stage (cloud-init documentation, "How to find files"). */
const CLOUD_INIT_RESULT = '/run/cloud-init/result.json';

async function examineCloudInit(world: ConditionWorld, signal: AbortSignal): Promise<string | null> {
  const { exitCode, output } = await run(`cat ${CLOUD_INIT_RESULT}`, world, signal);
  if (exitCode !== 0) return `there is no ${CLOUD_INIT_RESULT}`;
  if (!/"errors":\s*\[\s*"/.test(output)) return null;
  throw new VmctlError('COMMAND_FAILED', `VM "${world.name}": cloud-init finished with errors`, {
    hint: 'What it did is in /var/log/cloud-init.log of the guest.',
    details: output.trim(),
    fields: { vm: world.name },
  });
}

async function run(command: string, world: ConditionWorld, signal: AbortSignal) {
  const connection = await unlessAborted(world.connection(), signal);
  const chunks: Buffer[] = [];
  const keep = (chunk: Buffer) => void chunks.push(chunk);
  const { exitCode } = await connection.exec(command, { onStdout: keep, onStderr: keep, signal });
  return { exitCode, output: Buffer.concat(chunks).toString('utf8') };
}

const HTTP_ANSWER_MS = 10_000;

async function examineHttp(
  { port, path, status }: Extract<GuestCondition, { readonly kind: 'http' }>,
  world: ConditionWorld,
  signal: AbortSignal,
): Promise<string | null> {
  const forward = world.forwardOf(port);
  const socket = await (forward === null
    ? unlessAborted(world.connection(), signal).then((connection) => connection.openTcp(port, { signal }))
    : dial(forward));
  try {
    const answer = statusOf(socket, path);
    const told = await unlessAborted(
      withDeadline(answer, HTTP_ANSWER_MS, () => new VmctlError('TIMEOUT', 'no answer')),
      signal,
    );
    if (told === null) return 'the connection was closed without an answer';
    return (status === null ? told < 400 : told === status) ? null : `it was answered with ${told}`;
  } finally {
    socket.destroy();
  }
}

function dial({ host, port }: Endpoint): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.once('connect', () => resolve(socket));
    socket.once('error', (cause) => reject(new VmctlError('SSH_TRANSPORT', cause.message, { cause })));
  });
}

/** The status of the answer to a GET; null when there was none. Its first line is enough (RFC 9112, 4). */
function statusOf(socket: Duplex, path: string): Promise<number | null> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const status = /^HTTP\/1\.[01] (\d{3})[ \r]/.exec(text)?.[1];
      if (status !== undefined) resolve(Number(status));
      else if (text.length > 100) resolve(null);
    });
    socket.on('error', () => resolve(null)).on('close', () => resolve(null));
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: vmctl\r\nConnection: close\r\n\r\n`);
  });
}
