/** Ctrl-C and SIGTERM: the first asks the command to stop, and says so at once; the second ends it. */
import { EXIT } from './exit-code.js';

export interface Interrupts {
  readonly signal: AbortSignal;
  /** 130 for Ctrl-C, 143 for SIGTERM; null while nothing came. */
  exitCode(): number | null;
  /** From now on Ctrl-C is for a child that has the terminal. */
  ignore(): void;
  /** From now on signals go there, and interrupt nothing; null ends that. */
  pass(to: ((signal: NodeJS.Signals) => void) | null): void;
  dispose(): void;
}

const SIGNALS = [
  ['SIGINT', EXIT.interrupted],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const;

/** Where signals come from; the process. */
export interface SignalSource {
  on(name: NodeJS.Signals, listener: () => void): unknown;
  off(name: NodeJS.Signals, listener: () => void): unknown;
  exit(code: number): void;
}

/** What is said: `stopping` at the first signal, `leaving` at the second one, just before the end. */
export interface InterruptWords {
  stopping(): void;
  leaving(): void;
}

export function listenForInterrupts(say: InterruptWords, source: SignalSource = process): Interrupts {
  const controller = new AbortController();
  let exitCode: number | null = null;
  let ignored = false;
  let passedTo: ((signal: NodeJS.Signals) => void) | null = null;
  const listeners = SIGNALS.map(([name, code]) => {
    const listener = () => {
      if (passedTo !== null) {
        passedTo(name);
        return;
      }
      if (ignored && name === 'SIGINT') return;
      if (exitCode !== null) {
        say.leaving();
        source.exit(code);
        return;
      }
      exitCode = code;
      say.stopping();
      controller.abort();
    };
    source.on(name, listener);
    return () => source.off(name, listener);
  });
  return {
    signal: controller.signal,
    exitCode: () => exitCode,
    ignore: () => {
      ignored = true;
    },
    pass: (to) => {
      passedTo = to;
    },
    dispose: () => {
      for (const remove of listeners) remove();
    },
  };
}
