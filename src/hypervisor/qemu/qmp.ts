/**
 * A client of the QEMU Machine Protocol: JSON lines on a Unix socket (QEMU manual, "QEMU Machine Protocol
 * Specification"). QEMU serves one client of a socket at a time, so a connection is kept only while it is needed.
 */
import type { Socket } from 'node:net';
import { join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { connectUnixSocket } from '../../util/unix-socket.js';
import { withDeadline } from '../../util/wait.js';

const messageSchema = v.object({
  QMP: v.optional(v.unknown()),
  id: v.optional(v.number()),
  return: v.optional(v.unknown()),
  error: v.optional(v.object({ class: v.string(), desc: v.string() })),
  event: v.optional(v.string()),
  data: v.optional(v.unknown()),
});

type Message = v.InferOutput<typeof messageSchema>;

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export interface QmpOptions {
  /** Milliseconds for connecting and for each answer; default 5,000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 5_000;
/** Far above any answer to what vmctl asks; what sends more without an end of line is not QEMU. */
const LONGEST_LINE = 4 * 1024 * 1024;

/** Connects and negotiates. Rejects with Node's error while there is no socket, with `QMP` when QEMU does not answer. */
export async function connectQmp(path: string, options: QmpOptions = {}): Promise<QmpConnection> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const socket = await connectUnixSocket(path);
  const connection = new QmpConnection(socket, timeoutMs);
  try {
    await withDeadline(connection.greeting, timeoutMs, () => silent('greeting', timeoutMs));
    await connection.execute('qmp_capabilities');
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** The same for the QEMU of a VM. */
export function connectToVm(
  { directory }: Pick<VmHandle, 'directory'>,
  options: QmpOptions = {},
): Promise<QmpConnection> {
  return connectQmp(join(directory, VM_FILES.qmpSocket), options);
}

export class QmpConnection {
  /** Settles when the socket is closed from either side; QEMU closes it when it ends. */
  readonly closed: Promise<void>;
  readonly greeting: Promise<void>;
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #pending = new Map<number, Pending>();
  readonly #events = new Map<string, Set<() => void>>();
  #nextId = 1;
  #rest = '';
  #greeted: () => void = () => {};

  constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    this.greeting = new Promise((resolve, reject) => {
      this.#greeted = resolve;
      socket.once('close', () => reject(new VmctlError('QMP', 'QEMU closed the QMP socket without a greeting')));
    });
    this.greeting.catch(() => {});
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#failAll();
        resolve();
      });
    });
    // What an error means is told by the close that follows it.
    socket.on('error', () => {});
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => this.#receive(chunk));
  }

  /** Runs one command and gives its `return` value. Throws `QMP` with QEMU's words when it refuses. */
  async execute(command: string, arguments_?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject });
    });
    if (this.#socket.destroyed) this.#failAll();
    else this.#socket.write(`${JSON.stringify({ execute: command, arguments: arguments_, id })}\n`);
    try {
      return await withDeadline(answer, this.#timeoutMs, () => silent(command, this.#timeoutMs));
    } finally {
      this.#pending.delete(id);
    }
  }

  /** The machine's run state in QEMU's word: `running`, `paused`, … (QMP reference, "RunState"). */
  async status(): Promise<string> {
    const answer = await this.execute('query-status');
    return typeof answer === 'object' && answer !== null && 'status' in answer ? String(answer.status) : 'running';
  }

  /** Runs a command of the human monitor and gives the text that it prints. */
  async monitor(commandLine: string): Promise<string> {
    const text = await this.execute('human-monitor-command', { 'command-line': commandLine });
    return typeof text === 'string' ? text : '';
  }

  /** Settles at the next event of this name. Ask before the command that leads to it. Throws `QMP` when none comes. */
  async event(name: string): Promise<void> {
    const listeners = this.#events.get(name) ?? new Set();
    this.#events.set(name, listeners);
    let told: () => void = () => {};
    const event = new Promise<'told'>((resolve) => {
      told = () => resolve('told');
    });
    listeners.add(told);
    try {
      const first = Promise.race([event, this.closed]);
      if ((await withDeadline(first, this.#timeoutMs, () => noEvent(name, this.#timeoutMs))) === 'told') return;
      throw new VmctlError('QMP', `QEMU closed the QMP socket before it told of ${name}`);
    } finally {
      listeners.delete(told);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #receive(chunk: string): void {
    if (this.#rest.length + chunk.length > LONGEST_LINE && !chunk.includes('\n')) {
      this.#rest = '';
      this.#socket.destroy();
      return;
    }
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.trim() !== '') this.#dispatch(line);
    }
  }

  #dispatch(line: string): void {
    const message = parseMessage(line);
    if (message === null) {
      this.#socket.destroy();
      return;
    }
    if (message.QMP !== undefined) this.#greeted();
    if (message.event !== undefined) for (const told of this.#events.get(message.event) ?? []) told();
    if (message.id === undefined) return;
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    if (message.error === undefined) pending.resolve(message.return);
    else pending.reject(new VmctlError('QMP', `QEMU refused ${pending.command}: ${message.error.desc}`));
  }

  #failAll(): void {
    for (const { command, reject } of this.#pending.values()) {
      reject(new VmctlError('QMP', `QEMU closed the QMP socket before it answered ${command}`));
    }
    this.#pending.clear();
  }
}

function parseMessage(line: string): Message | null {
  try {
    const result = v.safeParse(messageSchema, JSON.parse(line));
    return result.success ? result.output : null;
  } catch {
    return null;
  }
}

function noEvent(name: string, timeoutMs: number): VmctlError {
  return new VmctlError('QMP', `QEMU did not tell of ${name} within ${timeoutMs / 1000} s`);
}

function silent(command: string, timeoutMs: number): VmctlError {
  return new VmctlError('QMP', `QEMU did not answer ${command} within ${timeoutMs / 1000} s`);
}
