/**
 * The serial console of a VM: a WebSocket of its server as a stream. Binary frames are the guest's bytes, text frames
 * are about the connection. It begins with what was printed last.
 */
import { Buffer } from 'node:buffer';
import { Duplex } from 'node:stream';
import { WebSocket } from 'undici';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import { throwIfAborted, unlessAborted } from '../../util/wait.js';
import { API_HEADERS } from './client.js';

export interface ConsoleOptions {
  /** The VM's name. */
  readonly vm: string;
  /** Of its server: `127.0.0.1:12345` */
  readonly address: string;
  /** Ends the attempt to connect; has no meaning for the stream afterwards. */
  readonly signal: AbortSignal;
}

/** As much as the server gives by default. */
const HISTORY_BYTES = 16_384;

/** The VM moves to another server; from this byte on, the other one has what it prints. */
const migratingSchema = v.object({
  Migrating: v.object({
    destination: v.pipe(v.string(), v.regex(/^[\w.:[\]-]+:\d+$/)),
    from_start: v.pipe(v.number(), v.integer(), v.minValue(0)),
  }),
});

/** RFC 6455, section 7.4.1. The end of the VM is "away"; a server that is killed says nothing. */
const ORDINARY_END: ReadonlySet<number> = new Set([1000, 1001, 1005, 1006]);

/** Connects. Throws `PROPOLIS` when the server does not let it, `ABORTED`. */
export async function openConsole({ vm, address, signal }: ConsoleOptions): Promise<Duplex> {
  throwIfAborted(signal);
  const stream = new ConsoleStream(vm);
  try {
    await unlessAborted(stream.connect(address, `most_recent=${HISTORY_BYTES}`), signal);
    return stream;
  } catch (error) {
    // Nobody is told of an end that is part of this failure.
    stream.on('error', () => {});
    stream.destroy();
    throw error;
  }
}

class ConsoleStream extends Duplex {
  readonly #vm: string;
  #socket: WebSocket | null = null;
  /** Moves that are under way follow one another. */
  #moving: Promise<void> = Promise.resolve();

  constructor(vm: string) {
    super();
    this.#vm = vm;
  }

  connect(address: string, from: string): Promise<void> {
    const socket = new WebSocket(`ws://${address}/instance/serial?${from}`, { headers: API_HEADERS });
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    return new Promise((resolve, reject) => {
      let reason = 'the connection was refused';
      let isOpen = false;
      socket.addEventListener('open', () => {
        isOpen = true;
        resolve();
      });
      socket.addEventListener('message', ({ data }: { readonly data: unknown }) => this.#take(data));
      socket.addEventListener('error', (event) => {
        if (event.message !== '') reason = event.message;
      });
      socket.addEventListener('close', ({ code, reason: words }) => {
        if (!isOpen) {
          reject(this.#failure(`cannot be reached at ${address}: ${reason}`, code));
        } else if (this.#socket === socket) {
          this.#end(code, words);
        }
      });
    });
  }

  override _read(): void {
    // The bytes come when the guest prints them.
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#socket?.send(chunk);
    done();
  }

  override _final(done: () => void): void {
    // The end of the input is not the end of what is printed.
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    done(error);
  }

  #take(data: unknown): void {
    if (data instanceof ArrayBuffer) {
      this.push(Buffer.from(data));
      return;
    }
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), migratingSchema), data);
    // Messages of other kinds are of newer servers, and may be left alone.
    if (parsed.success) this.#moving = this.#move(parsed.output.Migrating);
  }

  async #move({ destination, from_start }: v.InferOutput<typeof migratingSchema>['Migrating']): Promise<void> {
    await this.#moving;
    const before = this.#socket;
    try {
      await this.connect(destination, `from_start=${from_start}`);
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    } finally {
      before?.close();
    }
  }

  #end(code: number, reason: string): void {
    if (ORDINARY_END.has(code)) this.push(null);
    else
      this.destroy(
        this.#failure(`was closed by propolis-server: ${reason === '' ? 'it gave no reason' : reason}`, code),
      );
  }

  #failure(what: string, code: number): VmctlError {
    return new VmctlError('PROPOLIS', `the serial console of VM "${this.#vm}" ${what} (code ${code})`, {
      hint: `Attach again: vmctl console ${this.#vm}`,
      fields: { vm: this.#vm, code },
    });
  }
}
