/**
 * Work that several callers of one process want at the same time is done once. Each caller sees its progress and may
 * leave; when the last one leaves, the work is cancelled.
 */
import { VmctlError } from '../errors.js';
import type { StageContext, StageReporter } from '../model/event.js';
import { throwIfAborted } from '../util/wait.js';

interface Running<T> {
  readonly result: Promise<T>;
  readonly controller: AbortController;
  readonly callers: Set<Caller>;
  /** What is going on, for one who joins later. */
  readonly latest: Latest;
}

interface Caller {
  readonly reporter: StageReporter;
}

interface Latest {
  status: string | null;
  progress: { readonly bytes: number; readonly totalBytes: number | null } | null;
}

export class SharedWork<T> {
  readonly #running = new Map<string, Running<T>>();

  /**
   * Starts the work of this key or joins it. Throws what the work throws, or `ABORTED` when this caller is cancelled:
   * at once while others still wait, and after the work has ended when this was the last.
   */
  async join(key: string, context: StageContext, work: (shared: StageContext) => Promise<T>): Promise<T> {
    throwIfAborted(context.signal);
    const running = this.#running.get(key) ?? this.#start(key, work);
    const caller: Caller = { reporter: context.reporter };
    running.callers.add(caller);
    if (running.latest.status !== null) caller.reporter.status(running.latest.status);
    if (running.latest.progress !== null) {
      caller.reporter.progress(running.latest.progress.bytes, running.latest.progress.totalBytes);
    }
    const cancelled = new AbortController();
    const left = new Promise<'left'>((resolve) => {
      const leave = (): void => resolve('left');
      context.signal.addEventListener('abort', leave, { once: true, signal: cancelled.signal });
    });
    try {
      const outcome = await Promise.race([running.result.then((value) => ({ value })), left]);
      if (outcome !== 'left') return outcome.value;
    } finally {
      cancelled.abort();
      running.callers.delete(caller);
    }
    if (running.callers.size === 0) {
      this.#forget(key, running);
      running.controller.abort();
      await running.result.catch(() => null);
    }
    throw new VmctlError('ABORTED', 'interrupted', { cause: context.signal.reason });
  }

  #start(key: string, work: (shared: StageContext) => Promise<T>): Running<T> {
    const controller = new AbortController();
    const callers = new Set<Caller>();
    const latest: Latest = { status: null, progress: null };
    const reporter: StageReporter = {
      status: (text) => {
        latest.status = text;
        for (const caller of callers) caller.reporter.status(text);
      },
      progress: (bytes, totalBytes) => {
        latest.progress = { bytes, totalBytes };
        for (const caller of callers) caller.reporter.progress(bytes, totalBytes);
      },
      log: (line, stream) => {
        for (const caller of callers) caller.reporter.log(line, stream);
      },
    };
    // Begins when the first caller is there to be told.
    const result = Promise.resolve().then(() => work({ signal: controller.signal, reporter }));
    const running: Running<T> = { result, controller, callers, latest };
    this.#running.set(key, running);
    const forget = (): void => this.#forget(key, running);
    result.then(forget, forget);
    return running;
  }

  #forget(key: string, running: Running<T>): void {
    if (this.#running.get(key) === running) this.#running.delete(key);
  }
}
