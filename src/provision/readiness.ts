/**
 * When is a guest ready? When somebody who logs in over SSH gets in: its server has said who it is, has shown the
 * pinned host key, and takes the user's key. One deadline holds for all of it.
 */
import type { Socket } from 'node:net';
import { stripVTControlCharacters } from 'node:util';
import { type ErrorCode, VmctlError } from '../errors.js';
import type { StageReporter } from '../model/event.js';
import type { Endpoint } from '../model/vm.js';
import { type SshConnection, type SshTarget, assertUsableKeys, connectSsh, verifyHostKey } from '../ssh/client.js';
import { place } from '../ssh/login-error.js';
import { backOff, pause, throwIfAborted } from '../util/wait.js';
import { findServer } from './search.js';
import { watch } from './watch.js';

/**
 * For how long another host key may be shown. An image with host keys of its own can serve SSH before cloud-init has
 * put ours in their place, so the first wrong key proves nothing yet; one that stays comes from an image that does not
 * read its seed, or from another machine. Nothing is sent to a server with a wrong key in the meantime.
 */
const WRONG_HOST_KEY_MS = 30_000;
/**
 * Between two logins that are refused: 250 ms, twice that each time, 2 s at most. The user may not exist yet, or
 * pam_nologin keeps users out while the guest boots; but OpenSSH 9.8 and later bans an address for refusals
 * that come fast (PerSourcePenalties), and all of the host's connections come from one address.
 */
const FIRST_REFUSAL_PAUSE_MS = 250;
const LONGEST_REFUSAL_PAUSE_MS = 2_000;
const CONSOLE_LINES = 20;

export interface ReadinessOptions {
  /** The VM's name, for messages. */
  readonly name: string;
  /** Where SSH can be reached, asked anew for each attempt; null while that is not known yet. */
  readonly locate: () => Promise<Endpoint | null>;
  readonly target: Omit<SshTarget, 'endpoint'>;
  /** Milliseconds for everything. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly reporter: StageReporter;
  readonly stillRunning: () => Promise<boolean>;
  /** It goes on from saved memory, with its network up and its server listening. */
  readonly goesOn?: boolean;
  /** The serial console's last words, for the error; may be empty. */
  readonly consoleTail: () => Promise<string>;
}

/** What is being waited for at the moment. */
type Waiting =
  | { readonly kind: 'address-unknown' }
  | { readonly kind: 'no-banner'; readonly endpoint: Endpoint; readonly reason: string | null }
  | { readonly kind: 'login'; readonly endpoint: Endpoint; readonly error: VmctlError | null };

/**
 * Gives a connection that is logged in.
 *
 * Throws `READY_TIMEOUT` saying what it waited for, with the console's last lines; `VM_STATE` as soon as the VM has
 * stopped; `SSH_HOST_KEY` when another host key is shown for 30 s; `SSH_AUTHENTICATION` at once when no private key
 * can be used; `ABORTED`; and whatever `locate` and `stillRunning` throw.
 */
export function waitUntilReady(options: ReadinessOptions): Promise<SshConnection> {
  return waitUntil({ attempt: connectSsh, doing: 'logging in', missing: 'the login did not get through' }, options);
}

/**
 * Waits until the guest's server has proved that it has the pinned host key, and offers it nothing: for a guest whose login
 * has worked before, as one that goes on from saved memory. Throws as `waitUntilReady`.
 */
export function waitUntilVerified(options: ReadinessOptions): Promise<void> {
  return waitUntil(
    { attempt: verifyHostKey, doing: 'verifying its host key', missing: 'it did not show its host key' },
    options,
  );
}

/** What is done with a server that has said who it is, in words too. */
interface Goal<T> {
  readonly attempt: (
    target: SshTarget,
    options: { readonly socket: Socket; readonly signal: AbortSignal },
  ) => Promise<T>;
  readonly doing: string;
  /** What is missing while it is not done. */
  readonly missing: string;
}

async function waitUntil<T>(goal: Goal<T>, options: ReadinessOptions): Promise<T> {
  throwIfAborted(options.signal);
  assertUsableKeys(options.target);
  const waiting = new WaitingFor(options.reporter, goal.doing);
  const end = new AbortController();
  const timer = setTimeout(() => end.abort('late'), options.timeoutMs);
  void watch(options.stillRunning, end);
  try {
    return await retry(goal, { options, waiting, signal: AbortSignal.any([options.signal, end.signal]) });
  } catch (error) {
    throwIfAborted(options.signal);
    throw await explain(error, end.signal, { options, state: waiting.state, missing: goal.missing });
  } finally {
    clearTimeout(timer);
    end.abort('over');
  }
}

interface Retrying {
  readonly options: ReadinessOptions;
  readonly waiting: WaitingFor;
  readonly signal: AbortSignal;
}

async function retry<T>({ attempt }: Goal<T>, { options, waiting, signal }: Retrying): Promise<T> {
  const refusalPauses = doubling();
  const brokenPauses = backOff();
  let wrongHostKeySince: number | null = null;
  for (;;) {
    const { endpoint, socket } = await findServer({
      locate: () => unlessAborted(options.locate(), signal),
      networkIsUp: options.goesOn ?? false,
      signal,
      onState: (state) => waiting.set(state),
    });
    waiting.set({ kind: 'login', endpoint, error: null });
    try {
      return await attempt({ ...options.target, endpoint }, { socket, signal });
    } catch (error) {
      throwIfAborted(signal);
      if (!(error instanceof VmctlError) || !PASSING.has(error.code)) throw error;
      waiting.set({ kind: 'login', endpoint, error });
      wrongHostKeySince = error.code === 'SSH_HOST_KEY' ? (wrongHostKeySince ?? performance.now()) : null;
      if (wrongHostKeySince !== null && performance.now() - wrongHostKeySince >= WRONG_HOST_KEY_MS) throw error;
      await pause((error.code === 'SSH_TRANSPORT' ? brokenPauses : refusalPauses).next().value, signal);
    }
  }
}

/** Failures of a login that a booting guest may get over. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['SSH_TRANSPORT', 'SSH_AUTHENTICATION', 'SSH_HOST_KEY']);

function* doubling(): Generator<number, never> {
  for (let delay = FIRST_REFUSAL_PAUSE_MS; ; delay = Math.min(LONGEST_REFUSAL_PAUSE_MS, delay * 2)) yield delay;
}

/** A backend that does not answer must not keep the deadline from being told. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const over = new AbortController();
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new VmctlError('ABORTED', 'interrupted')), {
          signal: over.signal,
        });
        if (signal.aborted) reject(new VmctlError('ABORTED', 'interrupted'));
      }),
    ]);
  } finally {
    over.abort();
  }
}

/** Remembers what is being waited for, and says so when it changes. */
class WaitingFor {
  state: Waiting = { kind: 'address-unknown' };
  readonly #reporter: StageReporter;
  readonly #doing: string;
  #told = '';

  constructor(reporter: StageReporter, doing: string) {
    this.#reporter = reporter;
    this.#doing = doing;
  }

  set(state: Waiting): void {
    if (saysLess(state, this.state)) return;
    this.state = state;
    const text = statusText(state, this.#doing);
    if (text === this.#told) return;
    this.#told = text;
    this.#reporter.status(text, { kind: 'waiting', on: 'guest' });
  }
}

/** True for the start of another attempt while the failure of an earlier one is known: the failure says more. */
function saysLess(state: Waiting, known: Waiting): boolean {
  if (state.kind === 'no-banner' && state.reason === null) {
    return known.kind === 'no-banner' || (known.kind === 'login' && known.error !== null);
  }
  return state.kind === 'login' && state.error === null && known.kind === 'login';
}

function statusText(state: Waiting, doing: string): string {
  if (state.kind === 'address-unknown') return "waiting for the guest's address";
  const where = place(state.endpoint);
  if (state.kind === 'no-banner') return `waiting for SSH on ${where}`;
  if (state.error === null) return `SSH answers on ${where}, ${doing}`;
  if (state.error.code === 'SSH_HOST_KEY') return `SSH on ${where} shows another host key, trying again`;
  if (state.error.code === 'SSH_AUTHENTICATION') return `SSH on ${where} refuses the key, trying again`;
  return `SSH on ${where} broke off, trying again`;
}

async function explain(
  error: unknown,
  end: AbortSignal,
  facts: { readonly options: ReadinessOptions; readonly state: Waiting; readonly missing: string },
): Promise<unknown> {
  const { options, state } = facts;
  const { name } = options;
  if (!end.aborted) {
    if (!(error instanceof VmctlError) || error.code !== 'SSH_HOST_KEY') return error;
    return withConsole('SSH_HOST_KEY', `VM "${name}": ${error.message}`, { options, cause: error, hint: error.hint });
  }
  if (end.reason !== 'late' && end.reason !== 'stopped') return end.reason;
  const last = state.kind === 'login' ? state.error : null;
  const what = whatIsMissing(state, { user: options.target.user, missing: facts.missing });
  if (end.reason === 'stopped') {
    const message = `VM "${name}" stopped while it was waited for: ${what}`;
    const hint = `See what it said: vmctl log ${name} --console`;
    return withConsole('VM_STATE', message, { options, cause: last, hint });
  }
  const message = `VM "${name}" was not ready within ${options.timeoutMs / 1000} s: ${what}`;
  const hint = `${last?.hint === undefined || last.hint === null ? '' : `${last.hint} `}If the guest is only slow, raise ssh { timeout }; to see what it does: vmctl log ${name} --console`;
  return withConsole('READY_TIMEOUT', message, { options, cause: last, hint });
}

function whatIsMissing(state: Waiting, { user, missing }: { readonly user: string; readonly missing: string }): string {
  if (state.kind === 'address-unknown') return 'its address is not known yet';
  const where = place(state.endpoint);
  if (state.kind === 'no-banner') {
    return `no SSH banner on ${where}${state.reason === null ? '' : ` (${state.reason})`}`;
  }
  if (state.error === null) return `SSH answers on ${where}, but ${missing}`;
  if (state.error.code === 'SSH_HOST_KEY') return `SSH answers on ${where}, but with another host key`;
  if (state.error.code === 'SSH_AUTHENTICATION') {
    return `SSH answers on ${where}, but refuses the key for user "${user}"`;
  }
  return `SSH answers on ${where}, but the login fails: ${state.error.message}`;
}

async function withConsole(
  code: ErrorCode,
  message: string,
  rest: { readonly options: ReadinessOptions; readonly cause: VmctlError | null; readonly hint: string | null },
): Promise<VmctlError> {
  const { options, cause, hint } = rest;
  let text: string;
  try {
    text = await options.consoleTail();
  } catch {
    text = '';
  }
  const details = stripVTControlCharacters(text).trimEnd().split(/\r*\n/).slice(-CONSOLE_LINES).join('\n');
  return new VmctlError(code, message, {
    ...(hint === null ? {} : { hint }),
    ...(cause === null ? {} : { cause }),
    ...(details === '' ? {} : { details }),
    fields: { vm: options.name, timeoutMs: options.timeoutMs, ...(cause === null ? {} : { lastError: cause.code }) },
  });
}
