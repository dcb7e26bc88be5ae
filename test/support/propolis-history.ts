/**
 * What propolis-server remembers of a serial console: the first bytes and the last ones, and nothing between them once
 * there are more (`serial/history_buffer.rs`). `propolis-server.test.ts` holds it against what that does.
 */
import { Buffer } from 'node:buffer';

const MIB = 1024 ** 2;
/** As many as an answer has where nobody says. */
const DEFAULT_BYTES = 16_384;

/** From a byte on, or the last ones. */
export type Offset = { readonly fromStart: number } | { readonly mostRecent: number };

export class ConsoleHistory {
  readonly #capacity: number;
  #beginning: Buffer = Buffer.alloc(0);
  #rolling: Buffer = Buffer.alloc(0);
  #total = 0;

  constructor(capacity = MIB) {
    this.#capacity = capacity;
  }

  consume(bytes: Buffer): void {
    const all = Buffer.concat([this.#rolling, bytes]);
    const drained = all.subarray(0, Math.max(0, all.length - this.#capacity));
    const room = this.#capacity - this.#beginning.length;
    this.#beginning = Buffer.concat([this.#beginning, drained.subarray(0, room)]);
    this.#rolling = all.subarray(drained.length);
    this.#total += bytes.length;
  }

  /** The bytes, and the number of the one behind the last of them; or why they cannot be had. */
  read(
    offset: Offset,
    maxBytes = DEFAULT_BYTES,
  ): { readonly bytes: Buffer; readonly end: number } | { readonly refusal: string } {
    const start = this.#startOf(offset);
    const [beginning, rolling] = [this.#beginning.length, this.#rolling.length];
    const take = (from: Buffer, skip: number) => {
      const bytes = from.subarray(skip, skip + maxBytes);
      return { bytes, end: start + bytes.length };
    };
    if (this.#total === beginning + rolling) return take(Buffer.concat([this.#beginning, this.#rolling]), start);
    if (start < beginning) return take(this.#beginning, start);
    const fromEnd = this.#total - start;
    if (fromEnd <= rolling) return take(this.#rolling, rolling - fromEnd);
    const kept = `Only have first ${beginning} + most recent ${rolling} saved out of a total ${this.#total} of output`;
    return { refusal: `Requested byte offset ${start} (-${fromEnd}) is no longer cached: ${kept}` };
  }

  #startOf(offset: Offset): number {
    if ('fromStart' in offset) return Math.min(offset.fromStart, this.#total);
    return Math.max(0, this.#total - offset.mostRecent);
  }
}
