/** What a connection does under a body that is read slowly. */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { environmentDispatcher, openUrl } from '../../src/image/http.js';

/** As much as is read ahead: the reading stops just where the body ends. */
const body = randomBytes(64 * 1024);

/** Answers every request with these bytes and ends the connection; settles `sent` when the other side has them all. */
async function serve(answer: Buffer) {
  const server = createServer();
  const answering = async (): Promise<void> => {
    const [socket] = await once(server, 'connection');
    await once(socket, 'data');
    socket.end(answer);
    await once(socket, 'finish');
  };
  const sent = answering();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return { url: new URL(`http://127.0.0.1:${address.port}/`), sent, close: () => server.close() };
}

const head = (...lines: readonly string[]) => Buffer.from(`HTTP/1.1 200 OK\r\n${lines.join('\r\n')}\r\n\r\n`);

test.each([
  ['a length', ['connection: close', `content-length: ${body.length}`], body],
  ['no length', ['connection: close'], body],
  ['chunks', ['connection: close', 'transfer-encoding: chunked'], chunked(body)],
])('a body with %s, whose connection has ended before anybody reads it, comes whole', async (_, lines, bytes) => {
  const server = await serve(Buffer.concat([head(...lines), bytes]));
  const dispatcher = environmentDispatcher({}, 5000);
  try {
    const http = { dispatcher, signal: new AbortController().signal, stallMs: 5000 };
    const answer = await openUrl(server.url, { from: 0, validator: null }, http);
    await server.sent;
    // Several turns in which the end of the connection is heard, while nothing is read.
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect((await buffer(answer.body)).equals(body)).toBe(true);
  } finally {
    await dispatcher.destroy();
    server.close();
  }
});

test('a body that is cut off is an error, also where nobody has read it yet', async () => {
  const lines = ['connection: close', `content-length: ${body.length}`];
  const server = await serve(Buffer.concat([head(...lines), body.subarray(0, 65_000)]));
  const dispatcher = environmentDispatcher({}, 5000);
  try {
    const http = { dispatcher, signal: new AbortController().signal, stallMs: 5000 };
    const answer = await openUrl(server.url, { from: 0, validator: null }, http);
    await server.sent;
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    await expect(buffer(answer.body)).rejects.toThrow('Response body length does not match');
  } finally {
    await dispatcher.destroy();
    server.close();
  }
});

function chunked(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n0\r\n\r\n')]);
}
