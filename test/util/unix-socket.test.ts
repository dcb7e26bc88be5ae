import { spawn } from 'node:child_process';
import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import { mkdir, readdir } from 'node:fs/promises';
import { type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connectUnixSocket } from '../../src/util/unix-socket.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';

let directory: TemporaryDirectory;

beforeEach(async () => {
  directory = await temporaryDirectory();
});

afterEach(() => directory[Symbol.asyncDispose]());

async function text(socket: Socket): Promise<string> {
  const chunks: unknown[] = await socket.setEncoding('utf8').toArray();
  return chunks.join('');
}

const openFiles = async () => (await readdir('/proc/self/fd')).length;

/** Only a process that works in the directory can give a socket such a long path. */
async function startServer(cwd: string): Promise<AsyncDisposable> {
  const script = `require('node:net').createServer((s) => s.end('hello')).listen('x.sock', () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

test('a socket is reached by its path', async () => {
  const path = join(directory.path, 'x.sock');
  const server = createServer((socket) => socket.end('hello')).listen(path);
  await once(server, 'listening');
  expect(await text(await connectUnixSocket(path))).toBe('hello');
  server.close();
});

test('a socket is reached by a path of more than 107 bytes, in bytes and not in characters', async () => {
  // Fewer than 107 characters, more than 107 bytes.
  const long = join(directory.path, `${'ü'.repeat(40)} , "'`);
  expect(long.length + '/x.sock'.length).toBeLessThan(107);
  expect(Buffer.byteLength(long)).toBeGreaterThan(107);
  const longer = join(long, 'a'.repeat(200));
  await mkdir(longer, { recursive: true });
  for (const folder of [long, longer]) {
    await using _server = await startServer(folder);
    const before = await openFiles();
    expect(await text(await connectUnixSocket(join(folder, 'x.sock')))).toBe('hello');
    await expect.poll(openFiles).toBe(before);
  }
});

test('where nobody listens the error is Node’s own, and nothing stays open', async () => {
  const long = join(directory.path, 'a'.repeat(150));
  await mkdir(long);
  const before = await openFiles();
  await expect(connectUnixSocket(join(directory.path, 'x.sock'))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(connectUnixSocket(join(long, 'x.sock'))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(connectUnixSocket(join(long, 'none', 'x.sock'))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect.poll(openFiles).toBe(before);
});
