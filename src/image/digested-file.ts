/** Bytes on their way to a file, counted and digested. */
import type { Buffer } from 'node:buffer';
import { type Hash, createHash } from 'node:crypto';
import { type WriteStream, createReadStream, createWriteStream } from 'node:fs';
import { Writable } from 'node:stream';
import type { Checksum } from '../model/spec.js';
import { PRIVATE_FILE_MODE } from '../paths.js';
import { throwIfAborted } from '../util/wait.js';

/** How much of a download may wait in memory at each step. */
export const BUFFER_BYTES = 1024 ** 2;

/** Counts bytes and digests them. */
export class Digest {
  bytes = 0;
  readonly #hashes: ReadonlyMap<Checksum['algorithm'], Hash>;

  constructor(algorithms: readonly Checksum['algorithm'][]) {
    this.#hashes = new Map(algorithms.map((algorithm) => [algorithm, createHash(algorithm)]));
  }

  update(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    for (const hash of this.#hashes.values()) hash.update(chunk);
  }

  /** Hexadecimal digits of what has come so far. */
  hex(algorithm: Checksum['algorithm']): string {
    return this.#hashes.get(algorithm)?.copy().digest('hex') ?? '';
  }
}

/** A new file that is on the disk when the stream has finished, and whose bytes are digested on the way if wanted. */
export class DigestedFile extends Writable {
  readonly #file: WriteStream;
  readonly #digest: Digest | null;

  constructor(path: string, digest: Digest | null) {
    super({ highWaterMark: BUFFER_BYTES });
    this.#digest = digest;
    this.#file = createWriteStream(path, { mode: PRIVATE_FILE_MODE, flush: true, highWaterMark: BUFFER_BYTES });
    this.#file.on('error', (error) => this.destroy(error));
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#digest?.update(chunk);
    if (this.#file.write(chunk)) done();
    else this.#file.once('drain', done);
  }

  override _final(done: () => void): void {
    this.#file.once('close', done).end();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#file.closed) done(error);
    else this.#file.once('close', () => done(error)).destroy();
  }
}

/** The SHA-256 digest of a file; hexadecimal digits. Throws `ABORTED`, and Node's error for a file that cannot be read. */
export async function digestFile(path: string, signal: AbortSignal): Promise<string> {
  const digest = new Digest(['sha256']);
  for await (const chunk of createReadStream(path, { highWaterMark: BUFFER_BYTES })) {
    throwIfAborted(signal);
    digest.update(chunk);
  }
  return digest.hex('sha256');
}
