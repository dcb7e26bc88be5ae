/**
 * What has come so far of a content that is downloaded: the bytes as they came in `FILE`, and beside them in
 * `FILE.json` what it takes to go on where they end, in another process too. Whoever uses it holds the content's lock.
 *
 * After a crash of the host nobody knows which bytes of the file got to the disk. So what came before the last boot is
 * only continued where a checksum will tell.
 */
import { once } from 'node:events';
import { type WriteStream, createReadStream, createWriteStream } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import * as v from 'valibot';
import { PRIVATE_FILE_MODE } from '../paths.js';
import { isMissing, readTextIfPresent, stateDirectoryError, writeFileAtomically } from '../util/fs.js';
import { bootId } from '../util/process.js';
import { BUFFER_BYTES } from './digested-file.js';
import type { HttpBody } from './http.js';

const State = v.object({
  schemaVersion: v.literal(1),
  boot: v.string(),
  validator: v.nullable(v.string()),
  totalBytes: v.nullable(v.number()),
  etag: v.nullable(v.string()),
  lastModified: v.nullable(v.string()),
});

type State = v.InferOutput<typeof State>;

const NOTHING: State = {
  schemaVersion: 1,
  boot: '',
  validator: null,
  totalBytes: null,
  etag: null,
  lastModified: null,
};

/** What is added to the file's name for the facts about it. */
const STATE_SUFFIX = '.json';
/** What is added to the file's name for the image that is made of it, where it is compressed. */
export const DECOMPRESSED_SUFFIX = '.image';

/** How much of a download is there: bytes, and the whole if that is known; null where there is no download. */
export async function partialProgress(
  path: string,
): Promise<{ readonly bytes: number; readonly totalBytes: number | null } | null> {
  const [state, bytes] = await Promise.all([readState(path), lengthOf(path)]);
  return bytes === null ? null : { bytes, totalBytes: state?.totalBytes ?? null };
}

/** A partial download and what may be beside it, in the order in which they go: bytes without facts are worth nothing. */
export function partialFiles(path: string): readonly string[] {
  return [STATE_SUFFIX, DECOMPRESSED_SUFFIX, ''].map((suffix) => `${path}${suffix}`);
}

/** Removes a partial download, and everything beside it. */
export async function removePartial(path: string): Promise<void> {
  for (const file of partialFiles(path)) await rm(file, { force: true });
}

export class PartialFile {
  readonly path: string;
  /** So many bytes are there from an earlier time; what is added comes after them. */
  kept: number;
  readonly #hasChecksum: boolean;
  #state: State;
  #stream: WriteStream | null = null;

  private constructor(
    path: string,
    found: { readonly kept: number; readonly state: State; readonly hasChecksum: boolean },
  ) {
    this.path = path;
    this.kept = found.kept;
    this.#state = found.state;
    this.#hasChecksum = found.hasChecksum;
  }

  /**
   * Looks at what is there, and throws away what cannot be continued: without a validator and without a checksum,
   * nothing would tell whether the rest belongs to it. Throws `STATE_DIRECTORY`.
   */
  static async open(path: string, { hasChecksum }: { readonly hasChecksum: boolean }): Promise<PartialFile> {
    await rm(`${path}${DECOMPRESSED_SUFFIX}`, { force: true });
    const [found, bytes, boot] = await Promise.all([readState(path), lengthOf(path), bootId()]);
    const state = found ?? NOTHING;
    const kept = bytes ?? 0;
    const survives = hasChecksum || (state.validator !== null && state.boot === boot);
    const fits = state.totalBytes === null || kept <= state.totalBytes;
    if (found !== null && kept > 0 && survives && fits) return new PartialFile(path, { kept, state, hasChecksum });
    await removePartial(path);
    return new PartialFile(path, { kept: 0, state: NOTHING, hasChecksum });
  }

  /** Whether something can tell that further bytes belong to these. */
  get isContinuable(): boolean {
    return this.#hasChecksum || this.validator !== null;
  }

  get validator(): string | null {
    return this.#state.validator;
  }

  get totalBytes(): number | null {
    return this.#state.totalBytes;
  }

  get etag(): string | null {
    return this.#state.etag;
  }

  get lastModified(): string | null {
    return this.#state.lastModified;
  }

  /** Whether an answer brings the rest of another content than the one that is here. */
  isOther({ validator, totalBytes }: HttpBody): boolean {
    const differs = <T>(a: T | null, b: T | null): boolean => a !== null && b !== null && a !== b;
    return differs(this.#state.validator, validator) || differs(this.#state.totalBytes, totalBytes);
  }

  /** The bytes that were here at the beginning. */
  async *keptBytes(): AsyncGenerator<Uint8Array, void> {
    if (this.kept === 0) return;
    yield* createReadStream(this.path, { end: this.kept - 1, highWaterMark: BUFFER_BYTES });
  }

  /** Notes what an answer says of the whole, before its first byte is added. */
  async expect({ validator, totalBytes, etag, lastModified, from }: HttpBody): Promise<void> {
    const known = from === 0 ? NOTHING : this.#state;
    this.#state = {
      schemaVersion: 1,
      boot: from === 0 ? await bootId() : known.boot,
      validator: validator ?? known.validator,
      totalBytes: totalBytes ?? known.totalBytes,
      etag: etag ?? known.etag,
      lastModified: lastModified ?? known.lastModified,
    };
    await writeFileAtomically(`${this.path}${STATE_SUFFIX}`, `${JSON.stringify(this.#state)}\n`);
    // Also where no byte comes.
    this.#stream ??= this.#openForAppending();
  }

  /** Adds bytes; settles when there is room for more. Throws `STATE_DIRECTORY`. */
  async append(chunk: Uint8Array): Promise<void> {
    const stream = (this.#stream ??= this.#openForAppending());
    try {
      if (stream.errored !== null) throw stream.errored;
      if (!stream.write(chunk)) await once(stream, 'drain');
    } catch (error) {
      throw stateDirectoryError('write', this.path, error);
    }
  }

  /** Makes what has come last through a power cut; nothing can be added then. Throws `STATE_DIRECTORY`. */
  async sync(): Promise<void> {
    await this.close();
    try {
      const file = await open(this.path, 'r+');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      throw stateDirectoryError('write', this.path, error);
    }
  }

  /** Leaves the file as far as it has come. Throws `STATE_DIRECTORY`. */
  async close(): Promise<void> {
    const stream = this.#stream;
    this.#stream = null;
    if (stream === null) return;
    if (!stream.closed) {
      await new Promise<void>((resolve) => void stream.once('close', () => resolve()).end());
    }
    if (stream.errored !== null) throw stateDirectoryError('write', this.path, stream.errored);
  }

  /** Throws away what is there, to begin anew. */
  async clear(): Promise<void> {
    // What could not be written is not wanted either.
    await this.close().catch(() => {});
    await removePartial(this.path);
    this.kept = 0;
    this.#state = NOTHING;
  }

  #openForAppending(): WriteStream {
    const stream = createWriteStream(this.path, {
      flags: 'a',
      mode: PRIVATE_FILE_MODE,
      highWaterMark: BUFFER_BYTES,
    });
    // `append` and `close` tell of it.
    return stream.on('error', () => {});
  }
}

async function readState(path: string): Promise<State | null> {
  const text = await readTextIfPresent(`${path}${STATE_SUFFIX}`);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), State), text);
  return parsed.success ? parsed.output : null;
}

async function lengthOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isMissing(error)) return null;
    throw stateDirectoryError('read', path, error);
  }
}
