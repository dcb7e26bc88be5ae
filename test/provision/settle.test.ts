import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdir, rm } from 'node:fs/promises';
import { type Server, type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GuestPort } from '../../src/model/vm.js';
import { problemIn, settleByPort, settleScript } from '../../src/provision/settle.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';

const MESSAGE_BYTES = 88;
const NOW = 1_800_000_000_123;
const calm = new AbortController().signal;

let folder: TemporaryDirectory;

beforeEach(async () => {
  folder = await temporaryDirectory();
});

afterEach(async () => {
  await folder[Symbol.asyncDispose]();
});

describe('the script', () => {
  /** On this host, whose clock stays as it is: what is started may not set it, not even for root. */
  async function runHere(device: string | null) {
    const isRoot = process.getuid?.() === 0;
    const [program, words] = isRoot ? ['setpriv', ['--bounding-set=-sys_time', 'sh', '-s']] : ['sh', ['-s']];
    const script = settleScript({ now: NOW, device });
    const { status, stdout } = spawnSync(program, words, {
      input: script,
      encoding: 'utf8',
      env: { HOME: folder.path, PATH: process.env['PATH'] ?? '' },
    });
    const mark = /vmctl-settle\.[0-9a-f]{32}/.exec(script)?.[0] ?? '';
    const folders = ['/run', '/dev/shm', '/tmp', '/var/tmp', folder.path];
    const left = (await Promise.all(folders.map((path) => readdir(path)))).flat();
    return { status, answer: stdout, left: left.filter((name) => name.includes(mark)) };
  }

  test('starts a program that says which it could not do, and removes itself', async () => {
    const { status, answer, left } = await runHere(null);
    expect(status).toBe(0);
    // Random numbers are for root alone, and not in every container.
    expect(['1', '3']).toContain(answer);
    expect(left).toEqual([]);
  });

  test('leaves nothing behind where there is no such port', async () => {
    const { status, answer, left } = await runHere(join(folder.path, 'port'));
    expect(status).toBe(0);
    expect(['1', '3']).toContain(answer);
    expect(left).toEqual([]);
    expect(await readdir(folder.path)).toEqual([]);
  });

  test.each([
    ['0', null],
    // What a login shell may print by itself.
    ['welcome\n0', null],
    ['1', 'its clock cannot be set'],
    ['welcome\n2', 'its kernel takes no new random numbers'],
    ['', 'it does not answer as it should'],
  ])('that prints %j says %j', (output, problem) => {
    expect(problemIn({ exitCode: 0 }, output, '')).toBe(problem);
  });

  test('that could not become root is quoted', () => {
    const words = 'one\nsudo: a password is required';
    expect(problemIn({ exitCode: 1 }, '', words)).toBe('its user cannot act as root (sudo: a password is required)');
  });
});

describe('a guest with a program at its port', () => {
  let port: GuestPort;
  let server: Server;

  /** What it was told, when it was told all. */
  async function serve(answer: (guest: Socket) => void): Promise<{ readonly told: Promise<Buffer> }> {
    port = { device: '/dev/ttyS3', socket: join(folder.path, 'port.sock') };
    let done: (message: Buffer) => void;
    const told = new Promise<Buffer>((resolve) => (done = resolve));
    server = createServer((guest) => {
      let message = Buffer.alloc(0);
      guest.on('error', () => {});
      guest.on('data', (chunk) => {
        message = Buffer.concat([message, chunk]);
        if (message.length < MESSAGE_BYTES) return;
        done(message);
        answer(guest);
      });
    });
    server.listen(port.socket);
    await once(server, 'listening');
    return { told };
  }

  afterEach(async () => {
    server.close();
    await rm(port.socket, { force: true });
  });

  test('is told the time to the millisecond, and random numbers that are others each time', async () => {
    const random: string[] = [];
    for (const _ of [1, 2]) {
      const { told } = await serve((guest) => guest.write('0'));
      expect(await settleByPort(port, { signal: calm, clock: () => NOW })).toBe(true);
      const message = await told;
      expect(message.length).toBe(MESSAGE_BYTES);
      expect(message.readBigInt64LE(0)).toBe(1_800_000_000n);
      expect(message.readBigInt64LE(8)).toBe(123_000_000n);
      // struct rand_pool_info (random(4)): bits of entropy, and how many bytes follow.
      expect([message.readInt32LE(16), message.readInt32LE(20)]).toEqual([512, 64]);
      random.push(message.subarray(24).toString('hex'));
      server.close();
    }
    expect(random[0]).not.toBe(random[1]);
  });

  test.each(['1', '2', '3', 'login: '])('has not done it where it answers %j', async (answer) => {
    await serve((guest) => guest.write(answer));
    expect(await settleByPort(port, { signal: calm })).toBe(false);
  });

  test('has not done it where it hangs up', async () => {
    await serve((guest) => guest.destroy());
    expect(await settleByPort(port, { signal: calm })).toBe(false);
  });

  test('has not done it where it says nothing', async () => {
    await serve(() => {});
    expect(await settleByPort(port, { signal: calm, timeoutMs: 50 })).toBe(false);
  });

  test('is not there where nothing listens', async () => {
    await serve(() => {});
    server.close();
    await rm(port.socket, { force: true });
    expect(await settleByPort(port, { signal: calm })).toBe(false);
  });

  test('is not waited for by somebody who is cancelled', async () => {
    const controller = new AbortController();
    await serve(() => controller.abort());
    await expect(settleByPort(port, { signal: controller.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(settleByPort(port, { signal: controller.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
