import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import { type Server, type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Attachment, attach } from '../../src/cli/attach.js';
import { connectUnixSocket } from '../../src/util/unix-socket.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';

/** A console as QEMU has it: a Unix socket, with the test as the guest at its other end. */
let directory: TemporaryDirectory;
let server: Server;
let guest: Socket;
let stream: Socket;

beforeEach(async () => {
  directory = await temporaryDirectory();
  const path = join(directory.path, 'console.sock');
  server = createServer();
  server.listen(path);
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  stream = await connectUnixSocket(path);
  [guest] = await accepted;
});

afterEach(async () => {
  stream.destroy();
  guest.destroy();
  server.close();
  await directory[Symbol.asyncDispose]();
});

function visit(changes: Partial<Attachment> = {}, signal = new AbortController().signal) {
  const input = new PassThrough();
  const output = new PassThrough();
  const end = attach(stream, { input, output, typed: true, quietMs: 20, ...changes }, signal);
  return { input, output, end };
}

async function read(from: Socket | PassThrough, text: string): Promise<void> {
  let seen = '';
  while (seen.length < text.length) {
    const [chunk]: unknown[] = await once(from, 'data');
    seen += String(chunk);
  }
  expect(seen).toBe(text);
}

describe('a person at a console', () => {
  test('sees what the guest prints, and is read by it, until the detach key', async () => {
    const { input, output, end } = visit();
    const shown = read(output, 'login: ');
    guest.write('login: ');
    await shown;
    const typed = read(guest, 'root\rls');
    input.write('root\r');
    input.write('ls\u001drm');
    expect(await end).toBe('detached');
    await typed;
    expect(input.listenerCount('data')).toBe(0);
    expect(input.isPaused()).toBe(true);
  });

  test('can detach from a guest that reads nothing', async () => {
    guest.pause();
    const { input, end } = visit();
    for (let i = 0; i < 64; i += 1) input.write(Buffer.alloc(64 * 1024, 'x'));
    input.write('\u001d');
    expect(await end).toBe('detached');
  });

  test('is told when the guest ends, in good order or not', async () => {
    const orderly = visit();
    guest.end('reboot: Power down\r\n');
    expect(await orderly.end).toBe('guest');
    expect(String(orderly.output.read())).toBe('reboot: Power down\r\n');
  });

  test('is told when the guest ends with input that it has not read', async () => {
    guest.pause();
    const torn = visit();
    await new Promise((resolve) => void stream.write('unread', resolve));
    guest.destroy();
    expect(await torn.end).toBe('guest');
  });

  test('is let go when cancelled', async () => {
    const cancel = new AbortController();
    const { input, end } = visit({}, cancel.signal);
    cancel.abort();
    await expect(end).rejects.toMatchObject({ code: 'ABORTED' });
    expect(input.listenerCount('data')).toBe(0);
  });
});

describe('piped input', () => {
  test('is sent as it is, and its end waits for what the guest still answers', async () => {
    guest.on('data', (chunk) => void guest.write(`answer to ${String(chunk)}`));
    const { input, output, end } = visit({ typed: false, quietMs: 1_000 });
    input.end('a\u001db\r');
    expect(await end).toBe('input');
    expect(String(output.read())).toBe('answer to a\u001db\r');
  });

  test('is read no faster than the guest reads', async () => {
    guest.pause();
    const { input, end } = visit({ typed: false });
    const chunk = Buffer.alloc(64 * 1024, 'x');
    while (input.write(chunk)) await new Promise(setImmediate);
    expect(stream.writableLength).toBeGreaterThan(0);
    expect(stream.writableLength).toBeLessThan(4 * chunk.length);
    let received = 0;
    guest.on('data', (data: Buffer) => (received += data.length));
    guest.resume();
    input.end('the last bytes');
    expect(await end).toBe('input');
    expect(received % chunk.length).toBe('the last bytes'.length);
  });
});
