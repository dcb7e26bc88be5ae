/** An interruption that comes just when somebody looks whether there is one: at each such moment in turn. */

export interface Interruption {
  readonly signal: AbortSignal;
  /** How often was looked, or begun to listen, so far. */
  readonly looks: number;
}

/** Interrupts when the signal is looked at for this time, from 1. */
export function interruptionAt(look: number): Interruption {
  const controller = new AbortController();
  const { signal } = controller;
  let looks = 0;
  const noticed = (): void => {
    looks += 1;
    if (looks === look) controller.abort();
  };
  const isAborted = (): boolean => Reflect.get(AbortSignal.prototype, 'aborted', signal);
  Object.defineProperty(signal, 'aborted', {
    get: () => {
      noticed();
      return isAborted();
    },
  });
  const listen = signal.addEventListener.bind(signal);
  Object.defineProperty(signal, 'addEventListener', {
    value: (...listening: Parameters<typeof listen>) => {
      listen(...listening);
      noticed();
    },
  });
  return {
    signal,
    get looks() {
      return looks;
    },
  };
}
