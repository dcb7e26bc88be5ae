/**
 * Looking for the SSH server of a machine that is still booting, without wasting time and without wearing it out.
 *
 * QEMU's user networking accepts every connection at once and then tries the guest. While the guest has no network, the
 * connection hangs, and its packet to the guest is repeated only after seconds. Once the guest has network but no
 * server, the connection is closed at once. So: an attempt that hangs is left open, for it may be a slow server, and
 * another one is begun beside it; an attempt that is refused is repeated soon.
 */
import type { Socket } from 'node:net';
import type { Endpoint } from '../model/vm.js';
import { type DialOutcome, dial } from '../ssh/banner.js';
import { backOff, pause } from '../util/wait.js';

/** Between two attempts while nothing is known of the guest: the most that a network which just came up is overlooked. */
const HANGING_MS = 250;
/**
 * The same once the guest's network is known to be up, as when it has refused a connection: silence means a server that
 * is busy, and a second attempt keeps it busy for as long again.
 */
const BUSY_MS = 1_000;
/**
 * Between two attempts that are refused, at most: so long may a server listen without being seen. A refusal costs the
 * guest one packet.
 */
const REFUSED_MS = 50;
/** As long as the slowest emulated sshd takes to say who it is. */
const PATIENCE_MS = 15_000;
/** Below the ten strangers from which OpenSSH turns some away (MaxStartups). */
const MOST_ATTEMPTS = 8;

export interface SearchOptions {
  readonly locate: () => Promise<Endpoint | null>;
  /** Known from before, as in a guest that goes on from saved memory. */
  readonly networkIsUp: boolean;
  /** Ends the search: throws `ABORTED`. */
  readonly signal: AbortSignal;
  /** What is the matter at the moment; called when it changes. */
  readonly onState: (state: SearchState) => void;
}

type SearchState =
  | { readonly kind: 'address-unknown' }
  /** `reason` is null while nothing answers at all. */
  | { readonly kind: 'no-banner'; readonly endpoint: Endpoint; readonly reason: string | null };

export interface FoundServer {
  readonly endpoint: Endpoint;
  /** A connection that the server has answered; it belongs to the caller. */
  readonly socket: Socket;
}

/** Gives a connection on which an SSH server has said who it is. It ends only with that or with the signal. */
export async function findServer(options: SearchOptions): Promise<FoundServer> {
  const attempts = new Attempts(options.signal);
  let delays = backOff();
  let latest: Attempt | null = null;
  let spacing = options.networkIsUp ? BUSY_MS : HANGING_MS;
  let nextAt = performance.now();
  try {
    for (;;) {
      if (performance.now() >= nextAt) {
        const endpoint = await options.locate();
        // What comes after silence is news: look closely again.
        if (latest !== null) delays = backOff();
        latest = endpoint === null ? null : attempts.begin(endpoint);
        nextAt = performance.now() + (latest === null ? shortDelay(delays) : spacing);
        options.onState(
          endpoint === null ? { kind: 'address-unknown' } : { kind: 'no-banner', endpoint, reason: null },
        );
      }
      const done = await attempts.next(nextAt - performance.now());
      if (done?.outcome.kind === 'answered') {
        return { endpoint: done.attempt.endpoint, socket: attempts.release(done.outcome.socket) };
      }
      if (done?.outcome.kind !== 'refused') continue;
      options.onState({ kind: 'no-banner', endpoint: done.attempt.endpoint, reason: done.outcome.reason });
      spacing = BUSY_MS;
      if (done.attempt !== latest) continue;
      latest = null;
      nextAt = performance.now() + shortDelay(delays);
    }
  } finally {
    attempts.end();
  }
}

function shortDelay(delays: Generator<number, never>): number {
  return Math.min(delays.next().value, REFUSED_MS);
}

interface Attempt {
  readonly endpoint: Endpoint;
  readonly stop: AbortController;
  /** Never rejects. */
  readonly done: Promise<FinishedAttempt>;
}

interface FinishedAttempt {
  readonly attempt: Attempt;
  readonly outcome: DialOutcome;
}

/** The connection attempts that are open at the same time. */
class Attempts {
  readonly #signal: AbortSignal;
  readonly #open = new Set<Attempt>();
  #released: Socket | null = null;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  begin(endpoint: Endpoint): Attempt {
    for (const attempt of this.#open) {
      if (attempt.endpoint.host !== endpoint.host || attempt.endpoint.port !== endpoint.port) this.#drop(attempt);
    }
    // The oldest keeps its place, so that a server may be slow; the others make room for newer ones.
    const [, second] = this.#open;
    if (this.#open.size >= MOST_ATTEMPTS && second !== undefined) this.#drop(second);
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#signal, stop.signal]);
    const attempt: Attempt = {
      endpoint,
      stop,
      done: dial(endpoint, { timeoutMs: PATIENCE_MS, signal }).then(
        (outcome) => ({ attempt, outcome }),
        () => ({ attempt, outcome: { kind: 'silent' } }),
      ),
    };
    this.#open.add(attempt);
    return attempt;
  }

  /** The next attempt that comes to an end; null when none does within this time. Throws `ABORTED`. */
  async next(timeoutMs: number): Promise<FinishedAttempt | null> {
    const timer = new AbortController();
    const nothing = pause(Math.max(0, timeoutMs), AbortSignal.any([this.#signal, timer.signal])).then(() => null);
    try {
      const finished = await Promise.race([nothing, ...[...this.#open].map(({ done }) => done)]);
      if (finished !== null) this.#open.delete(finished.attempt);
      return finished;
    } finally {
      timer.abort();
    }
  }

  /** Takes a socket out of the care of this object. */
  release(socket: Socket): Socket {
    this.#released = socket;
    return socket;
  }

  end(): void {
    for (const attempt of this.#open) this.#drop(attempt);
  }

  #drop(attempt: Attempt): void {
    this.#open.delete(attempt);
    attempt.stop.abort();
    void this.#discard(attempt);
  }

  /** An attempt that is given up may have been answered in that very moment. */
  async #discard({ done }: Attempt): Promise<void> {
    const { outcome } = await done;
    if (outcome.kind === 'answered' && outcome.socket !== this.#released) outcome.socket.destroy();
  }
}
