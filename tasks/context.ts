/** What every task is given: the world that it acts on, and the one stream of events that tells what it does. */
import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import { VmctlError } from '../src/errors.js';
import type { RouterHypervisor } from '../src/hypervisor/router.js';
import type { PullPolicy } from '../src/model/pull-policy.js';
import type { EventListener, StageReporter, Step, VmEvent, VmEventBody } from '../src/model/event.js';
import type { WarmLevel } from '../src/model/warm.js';
import type { StatePaths } from '../src/paths.js';
import type { Registry } from '../src/registry.js';
import { throwIfAborted } from '../src/util/wait.js';

/** The world, handed in from outside; a test hands in another one. */
export interface TaskEnvironment {
  readonly paths: StatePaths;
  readonly hypervisor: RouterHypervisor;
  readonly registry: Registry;
  readonly events: EventHub;
  readonly limits: Limits;
  readonly signal: AbortSignal;
  /** The user's home directory. */
  readonly home: string;
  /** Where relative paths of the command line are taken from. */
  readonly cwd: string;
  /** What this process is doing, for others who wait for a lock: `vmctl up`. */
  readonly command: string;
  /** Proxy settings for downloads are read from here. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** When a place that an image comes from is asked. */
  readonly pull: PullPolicy;
  /** What of provisioned VMs is kept for others to start from. */
  readonly warm: WarmPolicy;
  /** Seconds to wait for SSH where the VMFile does not say; null takes the default for the accelerator. */
  readonly sshTimeoutSeconds: number | null;
  /** Seconds that a guest may take to power off, where no command says. */
  readonly stopGraceSeconds: number;
}

export interface WarmPolicy {
  /** Nothing frozen is used, and nothing is frozen, whatever a VMFile says. */
  readonly cold: boolean;
  /** For VMs whose VMFile says nothing. */
  readonly level: WarmLevel;
  /** Frozen VMs that no VM stands on go while all together take more, those that were used longest ago first. */
  readonly budgetBytes: number;
}

/** Everybody who wants to know what is going on listens here. */
export class EventHub {
  readonly #listeners = new Set<EventListener>();
  readonly #ofVms = new Map<string, Set<EventListener>>();

  /** Calls the listener for each event from now on; gives the function that ends it. */
  subscribe(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The same for the events of one VM; those of the others cost nothing. */
  subscribeTo(vm: string, listener: EventListener): () => void {
    const listeners = this.#ofVms.get(vm) ?? new Set();
    this.#ofVms.set(vm, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  emit(vm: string | null, step: Step, body: VmEventBody): void {
    const event: VmEvent = { time: Date.now(), vm, step, ...body };
    for (const listener of this.#listeners) listener(event);
    if (vm !== null) for (const listener of this.#ofVms.get(vm) ?? []) listener(event);
  }

  /** A reporter that speaks for one step of one VM. */
  reporter(vm: string | null, step: Step): StageReporter {
    return {
      status: (text, activity) =>
        this.emit(vm, step, { type: 'status', text, ...(activity === undefined ? {} : { activity }) }),
      progress: (bytes, totalBytes) => this.emit(vm, step, { type: 'progress', bytes, totalBytes }),
      log: (line, stream = 'note') => this.emit(vm, step, { type: 'log', stream, line }),
    };
  }
}

export interface Concurrency {
  /** Downloads at the same time; default 3. */
  readonly downloads?: number | undefined;
  /** Guests that boot at the same time; default the number of cores, 2 at least. */
  readonly boots?: number | undefined;
}

/** One queue for each thing that is scarce. */
export interface Limits {
  readonly downloads: PQueue;
  readonly boots: PQueue;
}

export function createLimits(concurrency: Concurrency = {}): Limits {
  return {
    downloads: new PQueue({ concurrency: concurrency.downloads ?? 3 }),
    boots: new PQueue({ concurrency: concurrency.boots ?? Math.max(2, availableParallelism()) }),
  };
}

/** Takes a place in a queue, and gives the function that leaves it. Throws `ABORTED` when cancelled while waiting. */
export async function takePlace(queue: PQueue, signal: AbortSignal): Promise<() => void> {
  throwIfAborted(signal);
  // The queue may only hear of a cancellation while the job waits: it would give a running job's place away.
  const waiting = new AbortController();
  const cancel = () => waiting.abort();
  signal.addEventListener('abort', cancel, { once: true });
  return new Promise((resolve, reject) => {
    const occupy = () =>
      new Promise<void>((leave) => {
        signal.removeEventListener('abort', cancel);
        resolve(leave);
      });
    queue.add(occupy, { signal: waiting.signal }).catch((cause: unknown) => {
      reject(new VmctlError('ABORTED', 'interrupted', { cause }));
    });
  });
}
