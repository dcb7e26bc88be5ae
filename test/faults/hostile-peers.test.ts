/** Whatever answers where QEMU or a guest's SSH server should: vmctl says so, soon, and keeps nothing of it. */
import { once } from 'node:events';
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { connectQmp } from '../../src/hypervisor/qemu/qmp.js';
import type { Endpoint } from '../../src/model/vm.js';
import { silentReporter } from '../../src/model/event.js';
import { waitUntilReady } from '../../src/provision/readiness.js';
import { readBanner } from '../../src/ssh/banner.js';
import { connectSsh } from '../../src/ssh/client.js';
import { type Keys, calm, failureOf, newKeys, targetOf } from '../ssh/guests.js';
import { temporaryDirectory } from '../support/fixtures.js';
import { FULL_RUN, Random, chosenSeed } from '../support/random.js';
import { SshServer } from '../support/ssh-server.js';

const MIB = 1024 * 1024;
const GREETING = '{"QMP":{"version":{},"capabilities":[]}}\r\n';

const cleanUp: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const step of cleanUp.splice(0).toReversed()) await step();
});

/** Serves each connection like this, on a path or on a port of the kernel's choice. */
async function serve(deal: (socket: Socket) => void, path?: string): Promise<Server> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    deal(socket);
  });
  if (path === undefined) server.listen(0, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  cleanUp.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return server;
}

/** Writes the same again as soon as the other side has taken it, for as long as the other side is there. */
function flood(socket: Socket, chunk: Buffer): void {
  const more = (): void => {
    if (!socket.destroyed) socket.write(chunk, () => setImmediate(more));
  };
  more();
}

const bytes = (random: Random, length: number): Buffer => Buffer.from(Array.from({ length }, () => random.below(256)));

describe('on a QMP socket', () => {
  const FLOODS: readonly (readonly [string, number, Buffer])[] = [
    // Nobody has to wait for the end of these: a line has grown too long.
    ['a line without an end', 60_000, Buffer.alloc(MIB, 'x')],
    ['zeros', 60_000, Buffer.alloc(MIB)],
    ['brackets without an end', 60_000, Buffer.alloc(MIB, '[')],
    ['empty lines', 300, Buffer.alloc(MIB, '\r\n')],
    ['events without an end', 300, Buffer.from('{"event":"STOP","timestamp":{"seconds":1}}\r\n'.repeat(1_000))],
    ['answers to nothing', 300, Buffer.from('{"return":{},"id":4711}\r\n'.repeat(1_000))],
  ];

  test.each(FLOODS)(
    '%s before or after the greeting: an error in time, and little memory',
    async (_what, timeoutMs, chunk) => {
      await using directory = await temporaryDirectory();
      for (const first of ['', GREETING]) {
        const path = join(directory.path, `${first.length}.sock`);
        await serve((socket) => {
          socket.write(first);
          flood(socket, chunk);
        }, path);
        const before = process.memoryUsage().rss;
        expect(await failureOf(connectQmp(path, { timeoutMs }))).toMatchObject({ code: 'QMP' });
        expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);
      }
    },
  );

  test('random bytes: an error in time', async () => {
    await using directory = await temporaryDirectory();
    const random = new Random(chosenSeed(1));
    for (let count = 0; count < 20; count += 1) {
      const path = join(directory.path, `${count}.sock`);
      const noise = bytes(random, 1 + random.below(2_000));
      await serve(
        (socket) => socket.write(Buffer.concat([Buffer.from(random.chance(0.5) ? GREETING : ''), noise])),
        path,
      );
      expect(await failureOf(connectQmp(path, { timeoutMs: 50 }))).toMatchObject({ code: 'QMP' });
    }
  });

  test.each([
    '7',
    'null',
    '"x"',
    '[]',
    '{"id":2}',
    '{"return":{},"id":"2"}',
    '{"error":{},"id":2}',
    '{"error":7,"id":2}',
  ])('the answer %s: an error, or an answer of nothing', async (answer) => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'qmp.sock');
    await serve((socket) => {
      socket.write(GREETING);
      socket.on('data', (chunk: Buffer) => {
        socket.write(chunk.toString().includes('capabilities') ? '{"return":{},"id":1}\r\n' : `${answer}\r\n`);
      });
    }, path);
    const connection = await connectQmp(path, { timeoutMs: 1_000 });
    const failure = await failureOf(connection.execute('query-status'));
    expect(failure === null || (failure instanceof VmctlError && failure.code === 'QMP')).toBe(true);
    connection.close();
    await connection.closed;
  });
});

describe('where SSH should be', () => {
  let keys: Keys;

  beforeEach(() => {
    keys = newKeys();
  });

  async function endpointOf(deal: (socket: Socket) => void): Promise<Endpoint> {
    const { port } = addressOf(await serve(deal));
    return { host: '127.0.0.1', port };
  }

  const BANNER = 'SSH-2.0-OpenSSH_9.2\r\n';

  test.each<[string, (socket: Socket) => void]>([
    ['a line without an end', (socket) => flood(socket, Buffer.alloc(MIB, 'x'))],
    ['lines without an end', (socket) => flood(socket, Buffer.alloc(MIB, 'hello\r\n'))],
    ['zeros', (socket) => flood(socket, Buffer.alloc(MIB))],
  ])('%s: it is not SSH, which is seen at once', async (_what, deal) => {
    const endpoint = await endpointOf(deal);
    const begun = performance.now();
    expect(await readBanner(endpoint, { timeoutMs: 20_000, signal: calm })).toBeNull();
    expect(performance.now() - begun).toBeLessThan(10_000);
  });

  test.each<[string, (socket: Socket) => void]>([
    ['nothing more', () => {}],
    ['zeros without an end', (socket) => flood(socket, Buffer.alloc(MIB))],
    ['packets of the greatest length', (socket) => flood(socket, Buffer.alloc(MIB, 0xff))],
    ['text without an end', (socket) => flood(socket, Buffer.alloc(MIB, 'HTTP/1.1 400\r\n'))],
    ['another banner', (socket) => flood(socket, Buffer.from(BANNER))],
    ['its end', (socket) => void socket.end()],
    ['a reset', (socket) => void socket.resetAndDestroy()],
  ])('a banner, and then %s: the login fails in time, with little memory', async (_what, deal) => {
    const endpoint = await endpointOf((socket) => socket.resume().write(BANNER, () => deal(socket)));
    const before = process.memoryUsage().rss;
    const failure = await failureOf(connectSsh(targetOf(endpoint, 'vm', keys), { signal: calm, timeoutMs: 500 }));
    expect(failure).toMatchObject({ code: 'SSH_TRANSPORT' });
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);

    const { user, privateKeys, hostKey } = targetOf(endpoint, 'vm', keys);
    const waiting = waitUntilReady({
      name: 'web',
      locate: async () => endpoint,
      target: { user, privateKeys, hostKey },
      timeoutMs: 500,
      signal: calm,
      reporter: silentReporter,
      stillRunning: async () => true,
      consoleTail: async () => '',
    });
    expect(await failureOf(waiting)).toMatchObject({ code: 'READY_TIMEOUT' });
  });

  test(
    'a real server of which bytes are lost, changed or added: a login, or a failure of it, and no crash',
    async () => {
      await using server = await SshServer.start({
        hostKey: keys.host.privateKey,
        authorizedKeys: [keys.user.publicKey],
      });
      const random = new Random(chosenSeed(7));
      const outcomes: string[] = [];
      for (let count = 0; count < (FULL_RUN ? 2_000 : 60); count += 1) {
        const at = random.below(3_000);
        const spoil = random.pick<(chunk: Buffer, offset: number) => Buffer>([
          (chunk, offset) => Buffer.concat([chunk.subarray(0, offset), chunk.subarray(offset + 1 + random.below(9))]),
          (chunk, offset) => Buffer.concat([chunk.subarray(0, offset), bytes(random, 9), chunk.subarray(offset)]),
          (chunk, offset) =>
            Buffer.from(chunk.map((byte, index) => (index === offset ? byte ^ (1 << random.below(8)) : byte))),
          (chunk, offset) => chunk.subarray(0, offset),
        ]);
        const endpoint = await endpointOf((socket) => relay(socket, server.endpoint, { at, spoil }));
        const attempt = connectSsh(targetOf(endpoint, 'vm', keys), { signal: calm, timeoutMs: 400 });
        const outcome = await attempt.then(
          async (connection) => {
            await connection[Symbol.asyncDispose]();
            return 'logged in';
          },
          (error: unknown) => (error instanceof VmctlError ? error.code : String(error)),
        );
        outcomes.push(outcome);
      }
      const legal = ['SSH_AUTHENTICATION', 'SSH_HOST_KEY', 'SSH_TRANSPORT', 'logged in'];
      expect(outcomes.filter((outcome) => !legal.includes(outcome))).toEqual([]);
      expect(outcomes).toContain('SSH_TRANSPORT');
    },
    FULL_RUN ? 900_000 : 60_000,
  );
});

interface Spoiling {
  /** The byte of what the server says at which it goes wrong. */
  readonly at: number;
  readonly spoil: (chunk: Buffer, offset: number) => Buffer;
}

function relay(client: Socket, to: Endpoint, { at, spoil }: Spoiling): void {
  const server = connect(to);
  let passed = 0;
  client.on('data', (chunk: Buffer) => server.write(chunk)).on('close', () => server.destroy());
  server.on('error', () => {});
  server.on('close', () => client.destroy());
  server.on('data', (chunk: Buffer) => {
    const isHere = at >= passed && at < passed + chunk.length;
    const offset = at - passed;
    passed += chunk.length;
    client.write(isHere ? spoil(chunk, offset) : chunk);
  });
}

function addressOf(server: Server): AddressInfo {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP port');
  return address;
}
