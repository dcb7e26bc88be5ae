/**
 * What vmctl asks of a propolis-server, over HTTP on its own address. Every status is checked, and a refusal carries the
 * server's words and the id under which its log has the request. Nothing is asked twice.
 */
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import { errorCode } from '../../util/fs.js';
import { throwIfAborted } from '../../util/wait.js';
import type { EnsureRequest } from './instance-spec.js';

/** The oldest version that there is: newer servers serve it too, and refuse requests that name none. */
export const API_VERSION = '1.0.0';
export const API_HEADERS = { 'api-version': API_VERSION } as const;

const STATES = [
  'Creating',
  'Starting',
  'Running',
  'Stopping',
  'Stopped',
  'Rebooting',
  'Migrating',
  'Repairing',
  'Failed',
  'Destroyed',
] as const;

export type InstanceState = (typeof STATES)[number];

const instanceSchema = v.object({
  instance: v.object({ properties: v.object({ id: v.string() }), state: v.picklist(STATES) }),
});
const monitorSchema = v.object({ gen: v.number(), state: v.picklist(STATES) });
const refusalSchema = v.object({
  message: v.string(),
  request_id: v.optional(v.string()),
  error_code: v.optional(v.nullable(v.string())),
});
const historySchema = v.object({
  data: v.array(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255))),
  last_byte_offset: v.number(),
});

/** A VM as its server knows it. */
export interface Instance {
  readonly id: string;
  readonly state: InstanceState;
}

export interface History {
  readonly bytes: Uint8Array;
  /** The number of the byte behind the last one. */
  readonly end: number;
}

export interface ClientOptions {
  /** `127.0.0.1:12345` */
  readonly address: string;
  /** Where the server's own words are; shown where an answer does not tell the reason. */
  readonly logFile: string;
  readonly signal?: AbortSignal;
  /** Milliseconds for one answer. */
  readonly timeoutMs?: number;
}

interface Ask {
  readonly method: 'GET' | 'PUT';
  readonly path: string;
  /** What it is for, to come after "refused to". */
  readonly purpose: string;
  readonly body?: unknown;
  /** The only status that is no failure. */
  readonly expected: number;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** What the state of a VM can be changed to, and what that is for. */
const CHANGES = { Run: 'start the VM', Stop: 'stop the VM', Reboot: 'reset the VM' } as const;

const ANSWER_TIMEOUT_MS = 30_000;
/** The server remembers as many of the first bytes, and of the last. */
const HISTORY_BYTES = 1024 ** 2;
/** Every byte of the answer is a number in JSON. */
const ANSWER_BYTES = 64 * 1024;
const REFUSED_CHANGE = 'instance state change not allowed: ';

export class PropolisClient {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /** Whether a server answers at all; with which status says nothing about its being ready. */
  async isThere(): Promise<boolean> {
    try {
      await this.#exchange({ method: 'GET', path: '/instance', purpose: '', expected: 200 });
      return true;
    } catch (error) {
      throwIfAborted(this.#options.signal);
      if (error instanceof VmctlError) return false;
      throw error;
    }
  }

  /** Makes the VM, which does not run yet. */
  async ensure(body: EnsureRequest): Promise<void> {
    await this.#ask({ method: 'PUT', path: '/instance', purpose: 'make the VM', body, expected: 201 });
  }

  /** The VM; null while none was made. One that has ended is still told of, as `Destroyed` or `Failed`. */
  async instance(): Promise<Instance | null> {
    const ask: Ask = { method: 'GET', path: '/instance', purpose: 'tell of the VM', expected: 200 };
    const answer = await this.#exchange(ask);
    if (answer.status === 424) return null;
    const { instance } = this.#read(instanceSchema, ask, this.#check(ask, answer));
    return { id: instance.properties.id, state: instance.state };
  }

  /** Queues the change, which takes its time. `Stop` is the end of power and `Reboot` the reset button, no words to the guest. */
  async change(to: keyof typeof CHANGES): Promise<void> {
    const purpose = CHANGES[to];
    await this.#ask({ method: 'PUT', path: '/instance/state', purpose, body: to, expected: 204 });
  }

  /** The state of this number or of a later one, as soon as the VM gets there; the first one has the number 1. */
  async monitor(generation: number): Promise<{ readonly generation: number; readonly state: InstanceState }> {
    const body = { gen: generation };
    const ask: Ask = { method: 'GET', path: '/instance/state-monitor', purpose: 'tell of the VM', body, expected: 200 };
    const { gen, state } = this.#read(monitorSchema, ask, await this.#ask(ask));
    return { generation: gen, state };
  }

  /**
   * What the guest has printed on its serial console, 64 KiB of it at most: from a byte on, counted from the VM's start,
   * or of the last MiB. Null without a VM that has not ended; `forgotten` where the server does not remember that byte.
   */
  async history(from: number | 'last-mebibyte'): Promise<History | 'forgotten' | null> {
    const which = from === 'last-mebibyte' ? `most_recent=${HISTORY_BYTES}` : `from_start=${from}`;
    const path = `/instance/serial/history?${which}&max_bytes=${ANSWER_BYTES}`;
    const ask: Ask = { method: 'GET', path, purpose: 'tell what the guest has printed', expected: 200 };
    const answer = await this.#exchange(ask);
    if (answer.status === 424) return null;
    if (answer.status === 400 && answer.text.includes('is no longer cached')) return 'forgotten';
    const { data, last_byte_offset: end } = this.#read(historySchema, ask, this.#check(ask, answer));
    return { bytes: Uint8Array.from(data), end };
  }

  async #ask(ask: Ask): Promise<string> {
    return this.#check(ask, await this.#exchange(ask));
  }

  async #exchange({ method, path, body }: Ask): Promise<Answer> {
    const { address, signal, timeoutMs = ANSWER_TIMEOUT_MS } = this.#options;
    throwIfAborted(signal);
    // Loaded when there is a server to ask: it is large, and every command knows this backend.
    const { request } = await import('undici');
    try {
      const response = await request(`http://${address}${path}`, {
        method,
        // A kept connection would break with the server's end, and look like a failure of the next request.
        reset: true,
        headers: { ...API_HEADERS, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        body: body === undefined ? null : JSON.stringify(body),
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        ...(signal === undefined ? {} : { signal }),
      });
      return { status: response.statusCode, text: await response.body.text() };
    } catch (cause) {
      throwIfAborted(signal);
      throw this.#unreachable(cause);
    }
  }

  #unreachable(cause: unknown): VmctlError {
    const { address, logFile } = this.#options;
    const words = cause instanceof Error ? cause.message || (errorCode(cause) ?? cause.name) : String(cause);
    return new VmctlError('PROPOLIS', `propolis-server cannot be reached at ${address}: ${words}`, {
      hint: `Its own words are in ${logFile}`,
      cause,
      fields: { address, path: logFile },
    });
  }

  #check(ask: Ask, { status, text }: Answer): string {
    if (status === ask.expected) return text;
    const { address, logFile } = this.#options;
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), refusalSchema), text);
    const refusal = parsed.success ? parsed.output : { message: text.trim() === '' ? 'no reason given' : text.trim() };
    const code = refusal.error_code ?? null;
    const reason = code?.startsWith(REFUSED_CHANGE) === true ? code.slice(REFUSED_CHANGE.length) : refusal.message;
    const message = `propolis-server refused to ${ask.purpose}: ${reason} (HTTP ${status})`;
    throw new VmctlError('PROPOLIS', message, {
      hint: hintFor({ status, code, reason, logFile }),
      fields: { address, status, requestId: refusal.request_id ?? null, errorCode: code },
    });
  }

  #read<T>(schema: v.GenericSchema<unknown, T>, ask: Ask, text: string): T {
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), text);
    if (parsed.success) return parsed.output;
    const { address } = this.#options;
    const message = `propolis-server was to ${ask.purpose} and answered something else: ${parsed.issues[0].message}`;
    throw new VmctlError('PROPOLIS', message, {
      hint: `vmctl speaks version ${API_VERSION} of its interface; this server may be too old for that.`,
      fields: { address, answer: text.slice(0, 500) },
    });
  }
}

function hintFor(facts: {
  readonly status: number;
  readonly code: string | null;
  readonly reason: string;
  readonly logFile: string;
}): string {
  const { status, reason, logFile } = facts;
  if (reason.includes('API version') || reason.includes('api-version')) {
    return `vmctl speaks version ${API_VERSION} of its interface: install a propolis-server that serves it.`;
  }
  if (status === 409) return 'Another program has made a VM with this server: vmctl stop, then vmctl start.';
  if (status === 424) return 'The VM has ended. See what it printed last, and start it again: vmctl start.';
  if (status === 403) return 'Wait for what is under way and try again.';
  return `The server wrote the reason into ${logFile}`;
}
