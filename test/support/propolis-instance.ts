/** The state machine behind the fake propolis-server: which states follow which, and what is refused meanwhile. */
import { setImmediate as turn } from 'node:timers/promises';
import { ConsoleHistory } from './propolis-history.js';

export type State = 'Creating' | 'Starting' | 'Running' | 'Stopping' | 'Stopped' | 'Rebooting' | 'Failed' | 'Destroyed';

export interface Behaviour {
  /** The VM comes to nothing when it is started. */
  readonly startFails?: boolean;
  /** States that are entered only when `release` says so. */
  readonly holds?: readonly State[];
  /** Or after so many milliseconds. */
  readonly holdMs?: number;
  /** What the guest prints as soon as it is started. */
  readonly says?: string;
}

export const REFUSALS = {
  inactive: 'Operation requires an active instance',
  starting: 'Instance is currently starting',
  halting: 'Instance is preparing to stop',
} as const;

/** From its making to the end; one that has ended is only good for being told of. */
export class FakeInstance {
  readonly properties: unknown;
  generation = 1;
  state: State = 'Creating';
  /** Everything that the guest printed. */
  readonly output = new ConsoleHistory();
  #behaviour: Behaviour;
  #stopping = false;
  #started = false;
  #released = new Set<State>();
  #work: Promise<void> = Promise.resolve();
  readonly #watchers = new Set<() => void>();

  constructor(properties: unknown, behaviour: Behaviour) {
    this.properties = properties;
    this.#behaviour = behaviour;
  }

  get ended(): boolean {
    return this.state === 'Destroyed' || this.state === 'Failed';
  }

  /** Called at every change, until `unwatch`. */
  watch(listener: () => void): () => void {
    this.#watchers.add(listener);
    return () => void this.#watchers.delete(listener);
  }

  /** Settles at the next change. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      const forget = this.watch(() => {
        forget();
        resolve();
      });
    });
  }

  release(state: State): void {
    this.#released.add(state);
    this.#tell();
  }

  /** Gives why it is refused; null where it is queued. */
  request(change: 'Run' | 'Stop' | 'Reboot'): string | null {
    if (change === 'Stop') {
      if (!this.#stopping) this.powerOff();
      return null;
    }
    if (this.#stopping) return REFUSALS.halting;
    if (change === 'Run') {
      if (!this.#started)
        this.#enter(this.#behaviour.startFails === true ? ['Starting', 'Failed'] : ['Starting', 'Running']);
      this.#started = true;
      return null;
    }
    if (!this.#started) return REFUSALS.inactive;
    if (this.state !== 'Running') return REFUSALS.starting;
    this.#enter(['Rebooting', 'Running']);
    return null;
  }

  /** By the guest itself, or by a request. */
  powerOff(): void {
    this.#stopping = true;
    // A start that is under way comes to nothing.
    this.#enter(this.state === 'Starting' ? ['Stopped', 'Destroyed'] : ['Stopping', 'Stopped', 'Destroyed']);
    this.#tell();
  }

  print(text: string): Buffer {
    const bytes = Buffer.from(text);
    this.output.consume(bytes);
    return bytes;
  }

  #enter(states: readonly State[]): void {
    const before = this.#work;
    this.#work = (async () => {
      await before;
      for (const state of states) await this.#reach(state);
    })();
  }

  async #reach(state: State): Promise<void> {
    await turn();
    const isHeld = this.#behaviour.holds?.includes(state) === true;
    if (isHeld && this.#behaviour.holdMs !== undefined) setTimeout(() => this.release(state), this.#behaviour.holdMs);
    const isOvertaken = () => this.#stopping && state === 'Running';
    if (isHeld) while (!this.#released.has(state) && !isOvertaken()) await this.changed();
    if (this.ended || isOvertaken()) return;
    this.generation += 1;
    this.state = state;
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#watchers]) listener();
  }
}
