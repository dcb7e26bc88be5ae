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
  const isTheOne = (): boolean => (looks += 1) === look;
  const isAborted = (): boolean => Reflect.get(AbortSignal.prototype, 'aborted', signal);
  Object.defineProperty(signal, 'aborted', {
    get: () => {
      if (isTheOne()) controller.abort();
      return isAborted();
    },
  });
  const listen = signal.addEventListener.bind(signal);
  Object.defineProperty(signal, 'addEventListener', {
    value: (...listening: Parameters<typeof listen>) => {
      listen(...listening);
      // Whoever has only just begun to listen is not told in the middle of that.
      if (isTheOne()) queueMicrotask(() => controller.abort());
    },
  });
  return {
    signal,
    get looks() {
      return looks;
    },
  };
}
