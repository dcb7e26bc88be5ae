import { once } from 'node:events';
import { type Server, type Socket, createServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Endpoint } from '../../src/model/vm.js';
import { dial, readBanner } from '../../src/ssh/banner.js';

const cleanUp: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUp.splice(0)) await step();
});

/** A port of this host on which each connection is dealt with like this. */
async function listen(deal: (socket: Socket) => void): Promise<Endpoint> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    deal(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanUp.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP port');
  return { host: address.address, port: address.port };
}

const options = { timeoutMs: 5_000, signal: new AbortController().signal };

describe('readBanner', () => {
  it.each([
    ['the identification', 'SSH-2.0-dropbear_2022.83\r\n', 'SSH-2.0-dropbear_2022.83'],
    ['one that ends in a bare line feed', 'SSH-2.0-x\n', 'SSH-2.0-x'],
    ['one that has a comment', 'SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n', 'SSH-2.0-OpenSSH_9.2p1 Debian-2'],
    ['an old server that speaks version 2 too', 'SSH-1.99-x\r\n', 'SSH-1.99-x'],
    ['the identification after other lines', 'Welcome\r\nto SSH-2.0-land\r\nSSH-2.0-x\r\n', 'SSH-2.0-x'],
  ])('gives %s', async (_what, text, identification) => {
    const endpoint = await listen((socket) => socket.write(text));
    expect(await readBanner(endpoint, options)).toBe(identification);
  });

  it('waits for the whole line', async () => {
    const endpoint = await listen((socket) => {
      socket.write('SSH-2.0-Op');
      setImmediate(() => socket.write('enSSH\r\n'));
    });
    expect(await readBanner(endpoint, options)).toBe('SSH-2.0-OpenSSH');
  });

  it.each<[string, (socket: Socket) => void]>([
    ['closes', (socket) => void socket.end()],
    ['resets', (socket) => void socket.resetAndDestroy()],
    ['closes after a word', (socket) => void socket.end('Exceeded MaxStartups\r\n')],
    ['closes in the middle of the identification', (socket) => void socket.end('SSH-2.0-Open')],
    ['speaks another protocol without end', (socket) => void socket.write('HTTP/1.1 400\r\n'.repeat(10_000))],
  ])('gives null for a server that %s', async (_what, deal) => {
    expect(await readBanner(await listen(deal), options)).toBeNull();
  });

  it('gives null when nothing listens', async () => {
    const endpoint = await listen(() => {});
    for (const step of cleanUp.splice(0)) await step();
    expect(await readBanner(endpoint, options)).toBeNull();
  });

  it('gives null for a server that is silent until the time is up', async () => {
    const endpoint = await listen(() => {});
    expect(await readBanner(endpoint, { ...options, timeoutMs: 20 })).toBeNull();
  });

  it('stops at once when cancelled, and closes its connection', async () => {
    const controller = new AbortController();
    const closed = deferred();
    const endpoint = await listen((socket) => {
      socket.resume().on('close', closed.resolve);
      controller.abort();
    });
    await expect(readBanner(endpoint, { ...options, signal: controller.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await closed.promise;
  });
});

describe('dial', () => {
  it('leaves everything that the server said in the socket', async () => {
    const endpoint = await listen((socket) => socket.write('hello\r\nSSH-2.0-x\r\nmore'));
    const outcome = await dial(endpoint, options);
    if (outcome.kind !== 'answered') throw new Error(outcome.kind);
    const [chunk] = await once(outcome.socket.resume(), 'data');
    expect(String(chunk)).toBe('hello\r\nSSH-2.0-x\r\nmore');
    outcome.socket.destroy();
  });

  it('says why a server turned it away', async () => {
    const endpoint = await listen((socket) => void socket.end('Not allowed at this time\r\n'));
    expect(await dial(endpoint, options)).toEqual({
      kind: 'refused',
      reason: 'it answered "Not allowed at this time"',
    });
  });
});

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
