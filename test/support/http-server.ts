/** A web server on a loopback port that counts what is asked of it and misbehaves on command. */
import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse, createServer } from 'node:http';

/** How one request is answered: the whole body with status 200, unless something else is said. */
export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** What `content-length` says; null leaves it out, and the end of the connection is the end of the body. */
  readonly contentLength?: number | null;
  /** Sends so many bytes of the body and then resets the connection; some of them may be lost on the way. */
  readonly dropAfter?: number;
  /** Sends so many bytes of the body and then ends the connection, so that all of them arrive. */
  readonly endAfter?: number;
  /** Sends so many bytes of the body and then waits: for the promise, or for ever. */
  readonly stallAfter?: number;
  readonly until?: Promise<unknown>;
  /** Gives a part to who asks for one, where `if-range` fits the reply's own `etag` or `last-modified`. */
  readonly ranges?: boolean;
}

export interface Asked {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

export interface HttpServer extends AsyncDisposable {
  /** `127.0.0.1:12345` */
  readonly host: string;
  /** Every request so far. */
  readonly requests: readonly Asked[];
  url(path: string): string;
  /** The answers for a path, one request after the other; the last one stays. Other paths give 404. */
  serve(path: string, ...replies: readonly [Reply, ...Reply[]]): void;
  /** Settles when so many requests have come in. */
  requested(count: number): Promise<void>;
}

export async function startHttpServer(): Promise<HttpServer> {
  const requests: Asked[] = [];
  const replies = new Map<string, Reply[]>();
  const server = createServer((request, response) => {
    requests.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers });
    server.emit('asked');
    const rest = replies.get(new URL(request.url ?? '/', 'http://localhost').pathname);
    const reply = (rest !== undefined && rest.length > 1 ? rest.shift() : rest?.[0]) ?? { status: 404 };
    // A client that goes away is what some tests are about.
    answer(request, response, reply).catch(() => request.socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  const host = `127.0.0.1:${address.port}`;
  return {
    host,
    requests,
    url: (path) => `http://${host}${path}`,
    serve: (path, ...some) => void replies.set(path, [...some]),
    requested: async (count) => {
      while (requests.length < count) await once(server, 'asked');
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The part that was asked for (RFC 9110, sections 13.1.5, 14.2 and 15.5.17), or the reply as it is. */
function partOf(request: IncomingMessage, reply: Reply): Reply {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? Number.NaN);
  if (reply.ranges !== true || Number.isNaN(from)) return reply;
  const condition = request.headers['if-range'];
  const validators = [reply.headers?.['etag'], reply.headers?.['last-modified']];
  if (condition !== undefined && !validators.includes(String(condition))) return reply;
  const body = Buffer.from(reply.body ?? '');
  const range = (text: string) => ({ ...reply.headers, 'content-range': text });
  if (from >= body.length) return { status: 416, headers: range(`bytes */${body.length}`) };
  const headers = range(`bytes ${from}-${body.length - 1}/${body.length}`);
  return { ...reply, status: 206, headers, body: body.subarray(from) };
}

async function answer(request: IncomingMessage, response: ServerResponse, asked: Reply): Promise<void> {
  const reply = partOf(request, asked);
  const body = Buffer.from(reply.body ?? '');
  const length = reply.contentLength === undefined ? body.length : reply.contentLength;
  response.useChunkedEncodingByDefault = false;
  response.writeHead(reply.status ?? 200, {
    ...reply.headers,
    ...(length === null ? { connection: 'close' } : { 'content-length': length }),
  });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  response.flushHeaders();
  const pause = reply.dropAfter ?? reply.endAfter ?? reply.stallAfter;
  await send(response, body.subarray(0, pause ?? body.length));
  if (reply.dropAfter !== undefined) {
    request.socket.resetAndDestroy();
    return;
  }
  if (reply.endAfter !== undefined) {
    request.socket.end();
    return;
  }
  if (reply.stallAfter !== undefined) {
    await (reply.until ?? once(request.socket, 'close'));
    await send(response, body.subarray(reply.stallAfter));
  }
  response.end();
  // Less than was promised only becomes true when the connection ends.
  if (length !== null && length > body.length) request.socket.end();
}

/** Done when the bytes are with the operating system. */
async function send(response: ServerResponse, bytes: Buffer): Promise<void> {
  if (bytes.length === 0) return;
  await new Promise<void>((resolve, reject) => {
    response.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}
