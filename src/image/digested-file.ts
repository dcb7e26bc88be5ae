/** Bytes on their way to a file, counted and digested. */
import { Buffer } from 'node:buffer';
import { type Hash, createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { callbackify } from 'node:util';
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

/** Chunks of zeros of at least this size are left out of a file: file systems keep no smaller holes. */
const HOLE_BYTES = 4096;
const ZEROS = Buffer.alloc(BUFFER_BYTES);

/**
 * A new file that is on the disk when the stream has finished, and whose bytes are digested on the way. Where there
 * would be zeros it has holes, which take no space: most of a disk image is empty.
 */
export class DigestedFile extends Writable {
  readonly #path: string;
  readonly #digest: Digest;
  #file: FileHandle | null = null;
  #length = 0;

  constructor(path: string, digest: Digest) {
    super({ highWaterMark: BUFFER_BYTES });
    this.#path = path;
    this.#digest = digest;
  }

  override _construct(done: Done): void {
    callbackify(async () => {
      this.#file = await open(this.#path, 'w', PRIVATE_FILE_MODE);
    })(done);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    callbackify(() => this.#add([chunk]))(done);
  }

  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: Done): void {
    callbackify(() => this.#add(chunks.map(({ chunk }) => chunk)))(done);
  }

  override _final(done: Done): void {
    callbackify(async () => {
      await this.#file?.truncate(this.#length);
      await this.#file?.sync();
    })(done);
  }

  override _destroy(error: Error | null, done: Done): void {
    const file = this.#file;
    this.#file = null;
    const close = async (): Promise<void> => file?.close();
    callbackify(close)((failure) => done(error ?? failure));
  }

  async #add(chunks: readonly Buffer[]): Promise<void> {
    let run: Buffer[] = [];
    let start = this.#length;
    for (const chunk of chunks) {
      this.#digest.update(chunk);
      if (isHole(chunk)) {
        await this.#writeRun(run, start);
        run = [];
        start = this.#length + chunk.length;
      } else run.push(chunk);
      this.#length += chunk.length;
    }
    await this.#writeRun(run, start);
  }

  async #writeRun(run: readonly Buffer[], start: number): Promise<void> {
    let rest = run;
    for (let position = start; rest.length > 0 && this.#file !== null; ) {
      const { bytesWritten } = await this.#file.writev(rest, position);
      position += bytesWritten;
      rest = without(rest, bytesWritten);
    }
  }
}

type Done = (error?: Error | null) => void;

/** What a disk that is filling up has not taken yet. */
function without(chunks: readonly Buffer[], bytes: number): readonly Buffer[] {
  let skipped = bytes;
  return chunks.flatMap((chunk) => {
    const taken = Math.min(skipped, chunk.length);
    skipped -= taken;
    return taken === chunk.length ? [] : [chunk.subarray(taken)];
  });
}

function isHole(chunk: Buffer): boolean {
  if (chunk.length < HOLE_BYTES) return false;
  for (let at = 0; at < chunk.length; at += ZEROS.length) {
    const part = chunk.subarray(at, at + ZEROS.length);
    if (!part.equals(ZEROS.subarray(0, part.length))) return false;
  }
  return true;
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
