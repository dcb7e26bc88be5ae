/** Looking once whether a condition of a guest holds. */
import { createReadStream } from 'node:fs';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { VmctlError, unreachable } from '../errors.js';
import type { ReadyCondition } from '../model/definition.js';
import type { Endpoint } from '../model/vm.js';
import { homePath } from '../ssh/home-path.js';
import { shellQuote } from '../ssh/shell-quote.js';
import { isMissing, stateDirectoryError } from '../util/fs.js';
import { unlessAborted, waitFor, withDeadline } from '../util/wait.js';
import type { ConditionWorld, Route } from './conditions.js';

/**
 * Null when the condition holds, else what is the matter. Throws what the SSH connection does, `COMMAND_FAILED` when
 * cloud-init has failed, `UNSUPPORTED` when a login is needed and there is none, and `ABORTED`.
 */
export async function examine(
  condition: ReadyCondition,
  world: ConditionWorld,
  signal: AbortSignal,
): Promise<string | null> {
  switch (condition.kind) {
    case 'http':
      return examineHttp(condition, world, signal);
    case 'port':
      return world.connection === null
        ? examineRoute(condition.port, world, signal)
        : examinePort(condition.port, world, signal);
    case 'log':
      return examineLog(condition, world);
    case 'shell':
      return examineCommand(condition.command, world, signal);
    case 'file':
      return examineFile(condition.path, world, signal);
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
  const last = stripVTControlCharacters(output).trim().split('\n').at(-1) ?? '';
  return `${exitCode === null ? 'it was ended by a signal' : `exit code ${exitCode}`}${last === '' ? '' : `, ${last}`}`;
}

/** Commands start in the home directory. */
async function examineFile(path: string, world: ConditionWorld, signal: AbortSignal): Promise<string | null> {
  const { exitCode } = await run(`test -e ${shellQuote(homePath(path) || '.')}`, world, signal);
  return exitCode === 0 ? null : 'it is not there, or its folder cannot be looked into by the user';
}

/** The kernel's own list says it without a connection that the service would see (proc(5), /proc/net/tcp). */
async function examinePort(port: number, world: ConditionWorld, signal: AbortSignal): Promise<string | null> {
  const { output } = await run('cat /proc/net/tcp /proc/net/tcp6 2>/dev/null', world, signal);
  const listening = [...output.matchAll(/^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) \S+ 0A /gm)].map(([, hex = '']) =>
    Number.parseInt(hex, 16),
  );
  if (listening.includes(port)) return null;
  const others = [...new Set(listening)].toSorted((a, b) => a - b);
  return others.length === 0 ? 'it listens on no TCP port' : `it listens on ${others.slice(0, 10).join(', ')} only`;
}

/** For how long the guest is given to take a connection, before another one is tried. */
const TAKEN_MS = 1_000;

/** Where nobody can log in, a connection that the guest takes says it. */
async function examineRoute(port: number, world: ConditionWorld, signal: AbortSignal): Promise<string | null> {
  const route = await unlessAborted(world.route(port), signal);
  if (route === null) return 'nothing leads there from this host, or its address is not known yet';
  const socket = await dial(route, signal);
  let closed = false;
  socket.on('error', () => {}).once('close', () => (closed = true));
  // A service that speaks first is there, whatever else is known.
  let spoke = false;
  socket.once('data', () => (spoke = true));
  try {
    const look = async (): Promise<'taken' | 'refused' | null> => {
      if (spoke || route.taken === null || (await route.taken())) return 'taken';
      return closed ? 'refused' : null;
    };
    const found = await waitFor(look, { timeoutMs: TAKEN_MS, signal });
    if (found === 'taken') return null;
    return found === 'refused' ? 'the guest refused the connection' : 'the guest did not take the connection';
  } finally {
    socket.destroy();
  }
}

type LogCondition = Extract<ReadyCondition, { readonly kind: 'log' }>;

async function examineLog(
  { pattern, flags }: LogCondition,
  { consoleLog, consoleFrom, consoleBefore, catchUpConsole }: ConditionWorld,
): Promise<string | null> {
  await catchUpConsole();
  const before = consoleBefore === null ? '' : await textFrom(consoleBefore, 0);
  const text = before + (await textFrom(consoleLog, consoleFrom));
  const lines = stripVTControlCharacters(text).split(/\r*\n/);
  const expression = new RegExp(pattern, flags);
  if (lines.some((line) => expression.test(line))) return null;
  const last = lines.findLast((line) => line.trim() !== '');
  return last === undefined ? 'it has printed nothing yet' : `the last of ${lines.length} lines is: ${last.trim()}`;
}

/** Nothing where there is no such file. */
async function textFrom(path: string, start: number): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of createReadStream(path, { start })) chunks.push(Buffer.from(chunk));
  } catch (error) {
    if (!isMissing(error)) throw stateDirectoryError('read', path, error);
  }
  return Buffer.concat(chunks).toString('utf8');
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
  if (world.connection === null) {
    throw new VmctlError('UNSUPPORTED', `VM "${world.name}" cannot be logged in to, which this condition needs`, {
      hint: 'Without a login there are: log; and port and http through a forward.',
      fields: { vm: world.name },
    });
  }
  const connection = await unlessAborted(world.connection(), signal);
  const chunks: Buffer[] = [];
  const keep = (chunk: Buffer) => void chunks.push(chunk);
  const { exitCode } = await connection.exec(command, { onStdout: keep, onStderr: keep, signal });
  return { exitCode, output: Buffer.concat(chunks).toString('utf8') };
}

type HttpCondition = Extract<ReadyCondition, { readonly kind: 'http' }>;

const HTTP_ANSWER_MS = 10_000;

async function examineHttp(
  { port, path, status }: HttpCondition,
  world: ConditionWorld,
  signal: AbortSignal,
): Promise<string | null> {
  const route = await unlessAborted(world.route(port), signal);
  const socket = await open(route, port, world, signal);
  if (socket === null) return 'nothing leads there from this host, or its address is not known yet';
  try {
    const answer = statusOf(socket, path);
    const late = () => new VmctlError('TIMEOUT', `no answer for ${HTTP_ANSWER_MS / 1000} s`);
    const told = await unlessAborted(withDeadline(answer, HTTP_ANSWER_MS, late), signal);
    if (told === null) return 'the connection was closed without an answer';
    return (status === null ? told < 400 : told === status) ? null : `it was answered with ${told}`;
  } finally {
    socket.destroy();
  }
}

async function open(
  route: Route | null,
  port: number,
  { connection }: ConditionWorld,
  signal: AbortSignal,
): Promise<Duplex | null> {
  if (route !== null) return dial(route, signal);
  if (connection === null) return null;
  return (await unlessAborted(connection(), signal)).openTcp(port, { signal });
}

/** Throws `SSH_TRANSPORT` when it cannot be made, as a connection through SSH does. */
function dial({ host, port }: Endpoint, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const cancel = () => socket.destroy(new Error('interrupted'));
    signal.addEventListener('abort', cancel, { once: true });
    socket.once('close', () => signal.removeEventListener('abort', cancel));
    socket.once('connect', () => resolve(socket));
    socket.once('error', (cause) => reject(new VmctlError('SSH_TRANSPORT', cause.message, { cause })));
    if (signal.aborted) cancel();
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
