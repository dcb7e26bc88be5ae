/**
 * What a connection does for as long as somebody uses it: it keeps the process alive, and asks the guest now and then
 * whether it is still there. One that is only kept for later does neither, so a program that has finished can end.
 */
import type { Socket } from 'node:net';

/** A guest that leaves three of these unanswered is taken for dead. */
const EVERY_MS = 5_000;
const MOST_UNANSWERED = 3;

export interface LivenessOptions {
  readonly socket: Socket;
  /** Asks the guest; calls back with any answer. */
  readonly ping: (answered: () => void) => void;
  /** Called once when the guest is taken for dead. */
  readonly onDead: () => void;
}

export class Liveness {
  readonly #options: LivenessOptions;
  #users = 0;
  #unanswered = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LivenessOptions) {
    this.#options = options;
  }

  /** Nobody uses it yet. */
  rest(): void {
    this.#options.socket.unref();
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#users += 1;
    if (this.#users === 1) this.#begin();
    try {
      return await work();
    } finally {
      this.#users -= 1;
      if (this.#users === 0) this.#end();
    }
  }

  #begin(): void {
    this.#options.socket.ref();
    this.#unanswered = 0;
    this.#timer = setInterval(() => this.#ask(), EVERY_MS);
  }

  #end(): void {
    clearInterval(this.#timer);
    this.#options.socket.unref();
  }

  #ask(): void {
    if (this.#unanswered >= MOST_UNANSWERED) {
      clearInterval(this.#timer);
      this.#options.onDead();
      return;
    }
    this.#unanswered += 1;
    this.#options.ping(() => {
      this.#unanswered = 0;
    });
  }
}
