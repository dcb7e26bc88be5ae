/**
 * A propolis-server without VMs: the same requests, states, refusals and console. `propolis-server.test.ts` holds it
 * against the cases in `test/fixtures/propolis`, which say what the real one does.
 */
import { Buffer } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Offset } from './propolis-history.js';
import { type Behaviour, FakeInstance, type State } from './propolis-instance.js';
import { type Components, makingProblem, specProblem } from './propolis-spec-rules.js';
import { ServerSocket } from './propolis-web-socket.js';

const NEWEST_VERSION = 5;
const MAX_BODY_BYTES = 1_048_576;
const NO_INSTANCE = { error_code: 'NoInstance', message: 'Server not initialized (no instance)' };
const BOTH_OR_NEITHER = "Exactly one of 'from_start' or 'most_recent' must be specified.";
const CHANGES = ['Run', 'Stop', 'Reboot'] as const;

export interface FakeOptions extends Behaviour {
  /** Whether a disk, a seed or a VNIC is there; default all but what is below `/nonexistent`. */
  readonly exists?: (nameOrPath: string) => boolean;
  /** Where the server writes what it does not tell its clients. */
  readonly log?: (line: string) => void;
  /** Told of every request that has a body. */
  readonly onBody?: (request: string, body: string) => void;
  /** What goes wrong, by request; `PUT /instance/state` or, from the second of its kind on, `GET /instance again`. */
  readonly faults?: Readonly<Record<string, Fault>>;
}

/** How a request goes wrong: with this answer, or with none. */
export type Fault =
  | { readonly status: number; readonly body: string }
  /** The connection breaks, nothing comes for ever, or the whole server ends. */
  | 'broken'
  | 'silence'
  | 'death';

interface Answer {
  readonly status: number;
  readonly body?: unknown;
}

const refusal = (status: number, body: { message: string; error_code?: string }): Answer => ({
  status,
  body: { request_id: randomUUID(), ...body },
});

export class FakePropolis implements AsyncDisposable {
  readonly #options: FakeOptions;
  readonly #server: Server;
  readonly #consoles = new Set<ServerSocket>();
  readonly #asked: string[] = [];
  readonly #met = new Set<string>();
  /** The VM that is, or the one that was. */
  instance: FakeInstance | null = null;

  private constructor(options: FakeOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex) => this.#upgrade(request, socket));
  }

  static async start(options: FakeOptions = {}, port = 0): Promise<FakePropolis> {
    const fake = new FakePropolis(options);
    fake.#server.listen(port, '127.0.0.1');
    await once(fake.#server, 'listening');
    return fake;
  }

  get address(): string {
    const bound = this.#server.address();
    if (bound === null || typeof bound === 'string') throw new Error('the server has no port');
    return `127.0.0.1:${bound.port}`;
  }

  /** Every request so far: `PUT /instance`, and the upgrades. */
  get asked(): readonly string[] {
    return this.#asked;
  }

  get consoles(): number {
    return this.#consoles.size;
  }

  /** Settles when the next one lets go of a console. */
  async consoleLeft(): Promise<void> {
    await once(this.#server, 'left');
  }

  /** The guest prints. */
  print(text: string): void {
    const bytes = this.instance?.print(text);
    if (bytes !== undefined) for (const console of this.#consoles) console.binary(bytes);
  }

  /** Sends a control message, such as a move of the VM, to every console. */
  control(message: string): void {
    for (const console of this.#consoles) console.text(message);
  }

  async settle(state: State): Promise<void> {
    const { instance } = this;
    if (instance === null) throw new Error('there is no VM');
    while (instance.state !== state) await instance.changed();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const console of this.#consoles) console.drop();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) if (chunk instanceof Buffer) chunks.push(chunk);
    const fault = this.#faultOf(request);
    if (fault !== null) {
      this.#fail(fault, response);
      return;
    }
    const answer = await this.#answer(request, Buffer.concat(chunks));
    const id =
      answer.body instanceof Object && 'request_id' in answer.body ? String(answer.body.request_id) : randomUUID();
    const headers = { 'x-request-id': id, ...(answer.status === 204 ? {} : { 'content-type': 'application/json' }) };
    response.writeHead(answer.status, headers);
    response.end(answer.status === 204 ? undefined : JSON.stringify(answer.body ?? null));
  }

  #faultOf({ method = '', url = '' }: IncomingMessage): Fault | null {
    const request = `${method} ${url}`;
    const { faults = {} } = this.#options;
    const again = this.#met.has(request) ? faults[`${request} again`] : undefined;
    this.#met.add(request);
    return again ?? faults[request] ?? null;
  }

  #fail(fault: Fault, response: ServerResponse): void {
    if (typeof fault === 'object') {
      response.writeHead(fault.status, { 'content-type': 'application/json' });
      response.end(fault.body);
      return;
    }
    this.#options.log?.(`${fault} in place of an answer`);
    if (fault === 'broken') response.destroy();
    if (fault === 'death') process.exit(1);
  }

  async #answer(request: IncomingMessage, body: Buffer): Promise<Answer> {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const operation = `${request.method ?? ''} ${url.pathname}`;
    // The guest's own side, which the real server does not have.
    if (operation === 'POST /guest/power-off') {
      this.instance?.powerOff();
      return { status: 204 };
    }
    if (operation === 'POST /guest/print') {
      this.print(body.toString());
      return { status: 204 };
    }
    this.#asked.push(operation);
    if (body.length > 0) this.#options.onBody?.(operation, body.toString());
    const unversioned = versionProblem(request);
    if (unversioned !== null) return unversioned;
    if (body.length > MAX_BODY_BYTES) {
      return refusal(400, { message: `request body exceeded maximum size of ${MAX_BODY_BYTES} bytes` });
    }
    switch (operation) {
      case 'PUT /instance':
        return this.#ensure(body.toString());
      case 'GET /instance':
        return this.instance === null ? refusal(424, NO_INSTANCE) : this.#tell(this.instance);
      case 'PUT /instance/state':
        return this.#change(body.toString());
      case 'GET /instance/state-monitor':
        return this.#monitor(body.toString());
      case 'GET /instance/serial/history':
        return this.#history(url.searchParams);
      case 'POST /instance/nmi':
        return this.instance === null || this.instance.ended ? refusal(424, NO_INSTANCE) : { status: 200, body: null };
      default:
        return refusal(404, { message: 'Not Found' });
    }
  }

  #tell({ properties, state }: FakeInstance): Answer {
    return { status: 200, body: { instance: { properties, state } } };
  }

  #ensure(text: string): Answer {
    let body: { properties: unknown; init: { value: { spec: { components: Components } } } };
    try {
      body = JSON.parse(text);
    } catch {
      const words = 'EOF while parsing an object at line 1 column 1';
      return refusal(400, { message: `unable to parse JSON body: ${words}` });
    }
    if (this.instance !== null && !this.instance.ended) {
      return refusal(409, { error_code: 'AlreadyInitialized', message: 'instance already initialized' });
    }
    const { components } = body.init.value.spec;
    const problem = specProblem(components);
    if (problem !== null) {
      return refusal(400, { message: `failed to generate internal instance spec: ${problem}` });
    }
    this.instance = new FakeInstance(body.properties, this.#options);
    const exists = this.#options.exists ?? ((path: string) => !path.startsWith('/nonexistent'));
    const hidden = makingProblem(components, exists);
    if (hidden !== null) {
      this.#options.log?.(hidden);
      this.instance.generation += 1;
      this.instance.state = 'Failed';
      return refusal(500, { error_code: 'Internal', message: 'Internal Server Error' });
    }
    const made = this.instance;
    made.watch(() => made.ended && this.closeConsoles(1001, 'VM stopped'));
    return { status: 201, body: { migrate: null } };
  }

  #change(text: string): Answer {
    if (this.instance === null || this.instance.ended) return refusal(424, NO_INSTANCE);
    const wish: unknown = JSON.parse(text);
    const change = CHANGES.find((one) => one === wish);
    if (change === undefined) return refusal(400, { message: `unable to parse JSON body: unknown variant ${text}` });
    const reason = this.instance.request(change);
    if (change === 'Run' && reason === null) this.print(this.#options.says ?? '');
    if (reason === null) return { status: 204 };
    return refusal(403, { error_code: `instance state change not allowed: ${reason}`, message: 'Forbidden' });
  }

  async #monitor(text: string): Promise<Answer> {
    const { instance } = this;
    if (instance === null) return refusal(424, NO_INSTANCE);
    const { gen }: { gen: number } = JSON.parse(text);
    while (gen > instance.generation) {
      if (instance.ended) {
        const message = `No instance present; will never reach generation ${gen}`;
        return refusal(410, { error_code: 'NoInstance', message });
      }
      await instance.changed();
    }
    const migration = { migration_in: null, migration_out: null };
    return { status: 200, body: { gen: instance.generation, state: instance.state, migration } };
  }

  #history(query: URLSearchParams): Answer {
    const { instance } = this;
    if (instance === null || instance.ended) return refusal(424, NO_INSTANCE);
    const offset = offsetOf(query);
    if (offset === null) return refusal(400, { message: BOTH_OR_NEITHER });
    const maxBytes = query.get('max_bytes');
    const part = instance.output.read(offset, maxBytes === null ? undefined : Number(maxBytes));
    if ('refusal' in part) return refusal(400, { message: part.refusal });
    return { status: 200, body: { data: [...part.bytes], last_byte_offset: part.end } };
  }

  #upgrade(request: IncomingMessage, socket: Duplex): void {
    const url = new URL(request.url ?? '/', 'http://localhost');
    this.#asked.push(`UPGRADE ${url.pathname}${url.search}`);
    const unversioned = versionProblem(request);
    if (unversioned !== null || url.pathname !== '/instance/serial') {
      const { status, body } = unversioned ?? refusal(404, { message: 'Not Found' });
      const text = JSON.stringify(body);
      socket.end(
        `HTTP/1.1 ${status} No\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
      );
      return;
    }
    const console = new ServerSocket(request, socket);
    const { instance } = this;
    // The real one accepts before it looks whether there is a VM.
    if (instance === null || instance.ended) {
      console.drop();
      return;
    }
    this.#consoles.add(console);
    socket.on('close', () => {
      this.#consoles.delete(console);
      this.#server.emit('left');
    });
    for (let offset = offsetOf(url.searchParams); offset !== null; ) {
      const part = instance.output.read(offset);
      if ('refusal' in part || part.bytes.length === 0) break;
      console.binary(part.bytes);
      offset = { fromStart: part.end };
    }
    console.onMessage = (kind, bytes) => {
      // The guest has a terminal that echoes.
      if (kind === 'binary') this.print(bytes.toString());
    };
  }

  closeConsoles(code: number, reason: string): void {
    for (const console of this.#consoles) console.close(code, reason);
    this.#consoles.clear();
  }
}

/** Null for a query that does not say which. */
function offsetOf(query: URLSearchParams): Offset | null {
  const [fromStart, mostRecent] = [query.get('from_start'), query.get('most_recent')];
  if ((fromStart === null) === (mostRecent === null)) return null;
  return fromStart === null ? { mostRecent: Number(mostRecent) } : { fromStart: Number(fromStart) };
}

function versionProblem(request: IncomingMessage): Answer | null {
  const version = request.headers['api-version'];
  if (version === undefined) return refusal(400, { message: 'missing expected header "api-version"' });
  const text = String(version);
  const odd = /^\d/.test(text) ? null : text.slice(0, 1);
  if (odd !== null) {
    const words = `unexpected character '${odd}' while parsing major version number: ${text}`;
    return refusal(400, { message: `bad value for header "api-version": ${words}` });
  }
  if (Number.parseInt(text, 10) <= NEWEST_VERSION) return null;
  return refusal(400, { message: `server does not support this API version: ${text}` });
}
