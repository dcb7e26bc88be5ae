/**
 * `console.log` of a VM. Nobody writes it while the guest prints: propolis-server remembers the first and the last MiB
 * since its start, and whoever wants the log fetches what has come since. Before a server is ended the rest is fetched.
 *
 * How far the file has come is its own size. What is written down besides is only where in it this server's first byte
 * stands, and that before anything is added: who is killed in between leaves nothing twice and nothing out.
 */
import { Buffer } from 'node:buffer';
import { appendFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import { isMissing, readTextIfPresent, stateDirectoryError, writeFileAtomically } from '../../util/fs.js';
import { withLock } from '../../util/lock.js';
import type { History, PropolisClient } from './client.js';
import { type LiveServer, type Place, clientOf } from './server.js';

export interface FetchOptions {
  /** Where locks are. */
  readonly locks: string;
  readonly signal?: AbortSignal | undefined;
}

const ANSWER_TIMEOUT_MS = 2_000;
/** While somebody else fetches the same. */
const LOCK_TIMEOUT_MS = 20_000;

/** Adds what the guest has printed since it was fetched last. Throws `PROPOLIS`, `STATE_DIRECTORY`, `ABORTED`. */
export async function fetchConsole(place: Place, server: LiveServer, { locks, signal }: FetchOptions): Promise<void> {
  const aborts = signal === undefined ? {} : { signal };
  const lock = { command: 'vmctl', timeoutMs: LOCK_TIMEOUT_MS, ...aborts };
  const client = clientOf(place, server.address, { timeoutMs: ANSWER_TIMEOUT_MS, ...aborts });
  await withLock(join(locks, `printed-${place.name}.lock`), lock, () =>
    fetchRest(new ConsoleLog(place, server), client),
  );
}

async function fetchRest(log: ConsoleLog, client: PropolisClient): Promise<void> {
  for (;;) {
    const at = await log.position();
    const part = await client.history(at);
    if (part === 'forgotten') {
      const last = await client.history('last-mebibyte');
      // The last ones are behind those that are forgotten.
      if (last === null || last === 'forgotten' || startOf(last) <= at) return;
      await log.skipTo(last, at);
    } else if (part === null || part.bytes.length === 0) {
      return;
    } else {
      await log.add(part.bytes);
    }
  }
}

const startOf = ({ bytes, end }: History): number => end - bytes.length;

const positionSchema = v.object({
  server: v.object({ pid: v.number(), startTime: v.string() }),
  /** Where in the file its first byte stands, or would if none were missing. */
  base: v.number(),
});

class ConsoleLog {
  readonly #path: string;
  readonly #positionPath: string;
  readonly #server: LiveServer['process'];

  constructor({ directory }: Place, { process }: LiveServer) {
    this.#path = join(directory, VM_FILES.consoleLog);
    this.#positionPath = join(directory, VM_FILES.propolisConsole);
    this.#server = process;
  }

  /** The number of the byte that the file lacks first. */
  async position(): Promise<number> {
    const size = await this.#size();
    const text = await readTextIfPresent(this.#positionPath);
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), positionSchema), text);
    if (parsed.success) {
      const { server, base } = parsed.output;
      // Somebody may have emptied the file.
      if (server.pid === this.#server.pid && server.startTime === this.#server.startTime && base <= size)
        return size - base;
    }
    await this.#writeBase(size);
    return 0;
  }

  /** Says how much is missing, and goes on behind it. */
  async skipTo(part: History, at: number): Promise<void> {
    const start = startOf(part);
    const gap = Buffer.from(`\r\n[${start - at} bytes that nobody fetched in time are missing here]\r\n`);
    await this.#writeBase((await this.#size()) + gap.length - start);
    await this.add(Buffer.concat([gap, part.bytes]));
  }

  async add(bytes: Uint8Array): Promise<void> {
    try {
      await appendFile(this.#path, bytes, { mode: PRIVATE_FILE_MODE });
    } catch (error) {
      throw stateDirectoryError('write', this.#path, error);
    }
  }

  async #size(): Promise<number> {
    try {
      return (await stat(this.#path)).size;
    } catch (error) {
      if (isMissing(error)) return 0;
      throw stateDirectoryError('read', this.#path, error);
    }
  }

  async #writeBase(base: number): Promise<void> {
    const { pid, startTime } = this.#server;
    const text = `${JSON.stringify({ server: { pid, startTime }, base })}\n`;
    await writeFileAtomically(this.#positionPath, text, { durable: false });
  }
}
