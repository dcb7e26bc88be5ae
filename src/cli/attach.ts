/** Connects a person, or a pipe, with a console: whatever a stream to a guest is made of. */
import type { Duplex, Readable } from 'node:stream';
import { errorCode } from '../util/fs.js';
import { pause, unlessAborted } from '../util/wait.js';
import type { OutputStream } from './cli.js';
import { splitAtDetachKey } from './detach-key.js';
import { writeOutput } from './output.js';

export interface Attachment {
  readonly input: Readable;
  readonly output: OutputStream;
  /** True where somebody types: then Ctrl-] detaches. */
  readonly typed: boolean;
  /** After the end of piped input the guest may still answer, until it has been quiet for so many milliseconds. */
  readonly quietMs: number;
  /** Sees what the guest prints, before it is shown. */
  readonly onOutput?: (chunk: Uint8Array) => void;
}

/** Who ended it: the one who types, the guest, or the end of the input. */
export type AttachEnd = 'detached' | 'guest' | 'input';

/** Passes bytes both ways until one side ends it. Throws `ABORTED` when cancelled, and the console's own errors. */
export async function attach(guest: Duplex, attachment: Attachment, signal: AbortSignal): Promise<AttachEnd> {
  const ended = new AbortController();
  const stop = AbortSignal.any([signal, ended.signal]);
  const clock = { lastOutput: 0 };
  // An error is told by the loop that reads; one that comes later has no meaning any more.
  guest.on('error', () => {});
  try {
    const output = showOutput(guest, attachment, { stop, clock });
    const input = passInput(guest, attachment, stop).then(async (end) => {
      if (end === 'input' && !attachment.typed) await untilQuiet(clock, attachment.quietMs, stop);
      return end;
    });
    return await unlessAborted(Promise.race([output, input]), signal);
  } finally {
    ended.abort();
  }
}

const TORN_OFF: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE']);

async function showOutput(
  guest: Duplex,
  { output, onOutput }: Attachment,
  { stop, clock }: { readonly stop: AbortSignal; readonly clock: { lastOutput: number } },
): Promise<AttachEnd> {
  try {
    for await (const chunk of guest.iterator({ destroyOnReturn: false })) {
      if (!(chunk instanceof Uint8Array)) continue;
      clock.lastOutput = performance.now();
      onOutput?.(chunk);
      await writeOutput(output, chunk, stop);
    }
  } catch (error) {
    // A QEMU that is killed has no time to say goodbye.
    if (!TORN_OFF.has(errorCode(error) ?? '')) throw error;
  }
  return 'guest';
}

/** Settles at the detach key or at the end of the input; leaves the input paused. */
function passInput(guest: Duplex, { input, typed }: Attachment, stop: AbortSignal): Promise<AttachEnd> {
  return new Promise((resolve) => {
    const take = (chunk: Uint8Array) => {
      const { before, detaches } = typed ? splitAtDetachKey(chunk) : { before: chunk, detaches: false };
      const welcome = guest.write(before);
      if (detaches) resolve('detached');
      // Typing is never held up: a guest that reads nothing is what somebody wants to detach from.
      if (welcome || typed) return;
      input.pause();
      guest.once('drain', () => void (stop.aborted || input.resume()));
    };
    const end = () => resolve('input');
    input.on('data', take).once('end', end).once('close', end).once('error', end);
    const leave = () => {
      input.off('data', take).off('end', end).off('close', end).off('error', end);
      // What a terminal that has gone away still reports concerns nobody.
      input.on('error', () => {});
      input.pause();
    };
    stop.addEventListener('abort', leave, { once: true });
  });
}

async function untilQuiet(clock: { readonly lastOutput: number }, quietMs: number, stop: AbortSignal): Promise<void> {
  const from = performance.now();
  for (;;) {
    const left = Math.max(from, clock.lastOutput) + quietMs - performance.now();
    if (left <= 0) return;
    await pause(left, stop);
  }
}
