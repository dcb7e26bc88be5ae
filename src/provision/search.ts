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
/** The same once the guest has refused a connection: its network is up, so silence means a server that is busy. */
const BUSY_MS = 1_000;
/** Between two attempts that are refused, at most: the server listens this long without being seen. */
const REFUSED_MS = 100;
/** As long as the slowest emulated sshd takes to say who it is. */
const PATIENCE_MS = 15_000;
/** Below the ten strangers from which OpenSSH turns some away (MaxStartups). */
const MOST_ATTEMPTS = 8;

export interface SearchOptions {
  readonly locate: () => Promise<Endpoint | null>;
  /** Ends the search: throws `ABORTED`. */
  readonly signal: AbortSignal;
  /** What is the matter at the moment; called when it changes. */
  readonly onState: (state: SearchState) => void;
}

export type SearchState =
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
  try {
    let refusals = backOff();
    let wasRefused = false;
    for (;;) {
      const endpoint = await options.locate();
      if (endpoint === null) {
        options.onState({ kind: 'address-unknown' });
        await pause(Math.min(refusals.next().value, REFUSED_MS), options.signal);
        continue;
      }
      attempts.begin(endpoint);
      const outcome = await attempts.next(wasRefused ? BUSY_MS : HANGING_MS);
      if (outcome?.kind === 'answered') return { endpoint, socket: attempts.release(outcome.socket) };
      const reason = outcome?.kind === 'refused' ? outcome.reason : null;
      options.onState({ kind: 'no-banner', endpoint, reason });
      if (outcome?.kind === 'refused') {
        wasRefused = true;
        await pause(Math.min(refusals.next().value, REFUSED_MS), options.signal);
      } else {
        // What comes after silence is news: look closely again.
        refusals = backOff();
      }
    }
  } finally {
    attempts.end();
  }
}

interface Attempt {
  readonly id: number;
  readonly outcome: Promise<{ readonly attempt: Attempt; readonly outcome: DialOutcome }>;
  readonly stop: AbortController;
}

/** The connection attempts that are open at the same time. */
class Attempts {
  readonly #signal: AbortSignal;
  #open: readonly Attempt[] = [];
  #place = '';

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }
}
