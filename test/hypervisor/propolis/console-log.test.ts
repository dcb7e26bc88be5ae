/** The log of the console: what a guest has printed, however often and by however many it is asked for. */
import { createHash } from 'node:crypto';
import { readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { PropolisClient } from '../../../src/hypervisor/propolis/client.js';
import { fetchConsole } from '../../../src/hypervisor/propolis/console-log.js';
import { ensureRequest } from '../../../src/hypervisor/propolis/instance-spec.js';
import { temporaryDirectory, vmSpec } from '../../support/fixtures.js';
import { type FakeOptions, FakePropolis } from '../../support/propolis-server.js';

interface Guest extends AsyncDisposable {
  readonly fake: FakePropolis;
  fetch(signal?: AbortSignal): Promise<void>;
}

interface Desk extends AsyncDisposable {
  readonly path: string;
  /** The VM is started: by a server of its own. */
  boot(options?: FakeOptions): Promise<Guest>;
  read(): Promise<string>;
}

async function openDesk(): Promise<Desk> {
  const directory = await temporaryDirectory();
  const path = join(directory.path, 'console.log');
  let boots = 0;
  const boot = async (options: FakeOptions = {}): Promise<Guest> => {
    const fake = await FakePropolis.start(options);
    const uuid = '3f0f4a2e-7c51-4d0e-9f0b-6d2d3a7f6c11';
    const client = new PropolisClient({ address: fake.address, logFile: '/log' });
    await client.ensure(ensureRequest(vmSpec(), { uuid, disk: '/disk', seed: null, vnic: null }));
    boots += 1;
    const server = { address: fake.address, process: { pid: 1, startTime: `boot ${boots}` } };
    const place = { name: 'web', directory: directory.path };
    const fetch = (signal?: AbortSignal) =>
      fetchConsole(place, server, { locks: join(directory.path, 'locks'), signal });
    return { fake, fetch, [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose]() };
  };
  return {
    path,
    boot,
    read: () => readFile(path, 'utf8'),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

const MIB = 1024 ** 2;

/** Text of which no part can be taken for another. */
function letters(length: number): string {
  let text = '';
  for (let i = 0; text.length < length; i += 1) text += `${i} `;
  return text.slice(0, length);
}

/** Stands for a text in a message, where megabytes of it would be of no help. */
const inShort = (text: string) => ({
  characters: text.length,
  sha256: createHash('sha256').update(text).digest('hex'),
});

describe('the log of the console', () => {
  test('has everything that was printed, once', async () => {
    await using desk = await openDesk();
    await using guest = await desk.boot();
    await guest.fetch();
    await expect(desk.read()).rejects.toThrow('ENOENT');
    guest.fake.print('Booting\r\n');
    await guest.fetch();
    await guest.fetch();
    expect(await desk.read()).toBe('Booting\r\n');
    guest.fake.print('login: ');
    await guest.fetch();
    expect(await desk.read()).toBe('Booting\r\nlogin: ');
  });

  test('has bytes as they are, more than one answer takes', async () => {
    await using desk = await openDesk();
    await using guest = await desk.boot();
    const text = 'ü\u001b[31m\r\n'.repeat(30_000);
    guest.fake.print(text);
    await guest.fetch();
    expect(await desk.read()).toBe(text);
  });

  test('has everything once also where several fetch it at the same time', async () => {
    await using desk = await openDesk();
    await using guest = await desk.boot();
    for (const line of ['one\n', 'two\n', 'three\n']) {
      guest.fake.print(line.repeat(20_000));
      await Promise.all([guest.fetch(), guest.fetch(), guest.fetch()]);
    }
    expect(inShort(await desk.read())).toEqual(
      inShort(['one\n', 'two\n', 'three\n'].map((line) => line.repeat(20_000)).join('')),
    );
  });

  test('goes on behind what was printed before a restart', async () => {
    await using desk = await openDesk();
    for (const line of ['first\n', 'second\n', 'third\n']) {
      await using guest = await desk.boot();
      guest.fake.print(line);
      await guest.fetch();
      await guest.fetch();
    }
    expect(await desk.read()).toBe('first\nsecond\nthird\n');
  });

  test('says how much is missing where nobody fetched it in time, and goes on behind that', async () => {
    await using desk = await openDesk();
    await using guest = await desk.boot();
    guest.fake.print(letters(100));
    await guest.fetch();
    guest.fake.print(letters(3 * MIB));
    await guest.fetch();
    guest.fake.print('!');
    await guest.fetch();
    const whole = letters(100) + letters(3 * MIB);
    const gap = `\r\n[${MIB + 100} bytes that nobody fetched in time are missing here]\r\n`;
    expect(inShort(await desk.read())).toEqual(inShort(`${whole.slice(0, MIB)}${gap}${whole.slice(-MIB)}!`));
  });

  test('is there whole again when somebody has emptied it', async () => {
    await using desk = await openDesk();
    await using guest = await desk.boot();
    guest.fake.print('Booting\n');
    await guest.fetch();
    await truncate(desk.path, 0);
    await guest.fetch();
    // Nothing of this server is in it: it begins anew.
    expect(await desk.read()).toBe('Booting\n');
  });

  test('stays as it is when the VM has ended, and tells of a server that cannot be reached', async () => {
    await using desk = await openDesk();
    const guest = await desk.boot();
    guest.fake.print('bye\n');
    await guest.fetch();
    guest.fake.instance?.request('Stop');
    await guest.fake.settle('Destroyed');
    await guest.fetch();
    await guest[Symbol.asyncDispose]();
    await expect(guest.fetch()).rejects.toMatchObject({ code: 'PROPOLIS' });
    await expect(guest.fetch(AbortSignal.abort())).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await desk.read()).toBe('bye\n');
  });
});
