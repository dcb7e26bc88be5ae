import { Buffer } from 'node:buffer';
import { execFile } from 'node:child_process';
import { appendFile, mkdir, open, rename, rm, rmdir, truncate, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { offsetOfLastLines } from '../../src/util/file-tail.js';
import { type FollowOptions, followFile } from '../../src/util/follow-file.js';
import { waitFor } from '../../src/util/wait.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';

let directory: TemporaryDirectory;
let folder: string;
let path: string;

beforeEach(async () => {
  directory = await temporaryDirectory();
  folder = join(directory.path, 'web');
  path = join(folder, 'console.log');
  await mkdir(folder);
});

afterEach(() => directory[Symbol.asyncDispose]());

/** Somebody who follows the file, and what he has seen. */
function follow(options: Partial<FollowOptions> = {}) {
  const stop = new AbortController();
  const chunks: Uint8Array[] = [];
  const read = async () => {
    for await (const chunk of followFile(path, { signal: stop.signal, ...options })) chunks.push(chunk);
  };
  const bytes = () => Buffer.concat(chunks);
  return {
    ended: read(),
    chunks,
    bytes,
    stop: () => stop.abort(),
    /** Waits until so many bytes have come, and gives them all as text. */
    seen: async (text: string) => {
      const length = Buffer.byteLength(text);
      await waitFor(async () => (bytes().length >= length ? true : null), { timeoutMs: 10_000 });
      expect(bytes().toString('utf8')).toBe(text);
    },
  };
}

describe('following a file', () => {
  test('gives what is there and everything that is added', async () => {
    await writeFile(path, 'one\n');
    const reader = follow();
    await reader.seen('one\n');
    await appendFile(path, 'two\n');
    await reader.seen('one\ntwo\n');
    await appendFile(path, 'login: ');
    await reader.seen('one\ntwo\nlogin: ');
    reader.stop();
    await expect(reader.ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('waits for a file that is not there yet, and gives it from its beginning', async () => {
    const reader = follow({ lastLines: 1 });
    await writeFile(join(folder, 'another'), 'x');
    await writeFile(path, 'one\ntwo\n');
    await reader.seen('one\ntwo\n');
    reader.stop();
    await expect(reader.ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('begins with the last lines if told so', async () => {
    await writeFile(path, 'one\ntwo\nthree\n');
    const reader = follow({ lastLines: 2 });
    await reader.seen('two\nthree\n');
    await appendFile(path, 'four\n');
    await reader.seen('two\nthree\nfour\n');
    reader.stop();
    await expect(reader.ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('begins anew where the file was emptied', async () => {
    await writeFile(path, 'before\n');
    const reader = follow();
    await reader.seen('before\n');
    await truncate(path);
    await appendFile(path, 'after\n');
    await reader.seen('before\nafter\n');
    reader.stop();
    await expect(reader.ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('goes on with the file that takes its place, after the last words of the old one', async () => {
    await writeFile(path, 'old\n');
    const reader = follow();
    await reader.seen('old\n');
    const writer = await open(path, 'a');
    await rename(path, `${path}.1`);
    await writer.appendFile('last words\n');
    await writer.close();
    await writeFile(path, 'new\n');
    await reader.seen('old\nlast words\nnew\n');
    await unlink(path);
    await writeFile(path, 'newer\n');
    await reader.seen('old\nlast words\nnew\nnewer\n');
    reader.stop();
    await expect(reader.ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('loses and repeats nothing of a file that grows all the time, whatever its bytes are', async () => {
    const written: Buffer[] = [];
    const reader = follow();
    for (let i = 0; i < 300; i += 1) {
      // Half a character at a time, bytes that are none, and now and then more than one block.
      const chunk = Buffer.concat([Buffer.from([0xe2]), Buffer.alloc(i % 50 === 0 ? 150_000 : i, i), Buffer.from([i])]);
      written.push(chunk);
      await appendFile(path, chunk);
    }
    const length = Buffer.concat(written).length;
    await waitFor(async () => (reader.bytes().length >= length ? true : null), { timeoutMs: 20_000 });
    expect(reader.bytes().equals(Buffer.concat(written))).toBe(true);
    reader.stop();
    await expect(reader.ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('takes many bytes together that are written one by one, as QEMU writes a console', async () => {
    const reader = follow();
    const many = 200_000;
    const program = `const file = require('fs').openSync(${JSON.stringify(path)}, 'a'); for (let i = 0; i < ${many}; i += 1) require('fs').writeSync(file, 'x');`;
    await promisify(execFile)(process.execPath, ['-e', program]);
    await reader.seen('x'.repeat(many));
    expect(reader.chunks.length).toBeLessThan(many / 400);
    reader.stop();
    await expect(reader.ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('ends with the folder, after everything that was written', async () => {
    await writeFile(path, 'one\n');
    const reader = follow();
    await reader.seen('one\n');
    await appendFile(path, 'the end\n');
    await rename(folder, join(directory.path, '.removing-web'));
    await rm(join(directory.path, '.removing-web'), { recursive: true });
    await reader.ended;
    expect(reader.bytes().toString()).toBe('one\nthe end\n');
  });

  test('ends with the folder also where a new folder has its name at once, and where there is none to begin with', async () => {
    await writeFile(path, 'one\n');
    const reader = follow();
    await reader.seen('one\n');
    await rm(folder, { recursive: true });
    await mkdir(folder);
    await writeFile(path, 'of another VM\n');
    await reader.ended;
    expect(reader.bytes().toString()).toBe('one\n');
    await rm(folder, { recursive: true });
    await follow().ended;
  });

  test('ends with the folder whatever the reader does while it is removed', async () => {
    const removed = Array.from({ length: 60 }, async (_, moment) => {
      const file = join(directory.path, `at-${moment}`, 'console.log');
      await mkdir(dirname(file));
      await writeFile(file, 'one\n');
      for await (const _chunk of followFile(file, { signal: new AbortController().signal })) {
        const remove = async () => {
          await unlink(file);
          for (let turn = 0; turn < moment; turn += 1) await setImmediate();
          await rmdir(dirname(file));
        };
        void remove();
      }
    });
    expect(await Promise.all(removed)).toHaveLength(60);
  });

  test('ends when it was cancelled before', async () => {
    await writeFile(path, 'one\n');
    const before = AbortSignal.abort();
    await expect(follow({ signal: before }).ended).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('closes its files when the reader stops in the middle', async () => {
    await writeFile(path, 'one\n');
    const signal = new AbortController().signal;
    for await (const chunk of followFile(path, { signal })) {
      expect(Buffer.from(chunk).toString()).toBe('one\n');
      break;
    }
    await rm(folder, { recursive: true });
  });

  test('says which file cannot be read', async () => {
    await mkdir(path);
    const error = await follow().ended.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'STATE_DIRECTORY', message: expect.stringContaining(path) });
  });
});

describe('the last lines of a file', () => {
  const long = 'x'.repeat(70_000);
  test.each([
    ['one\ntwo\nthree\n', 2, 'two\nthree\n'],
    ['one\ntwo\nunfinished', 2, 'two\nunfinished'],
    ['one\n', 5, 'one\n'],
    ['', 3, ''],
    ['\n\n\n', 2, '\n\n'],
    ['\n', 1, '\n'],
    ['x', 1, 'x'],
    ['\nx', 1, 'x'],
    [`a\n${long}\n${long}\nb\n`, 3, `${long}\n${long}\nb\n`],
    ['y\n'.repeat(100_000), 70_000, 'y\n'.repeat(70_000)],
    [`a\n${'z'.repeat(64 * 1024 - 1)}\n`, 1, `${'z'.repeat(64 * 1024 - 1)}\n`],
  ])('of case %#', async (text, lines, expected) => {
    await writeFile(path, text);
    await using file = await open(path);
    expect(text.slice(await offsetOfLastLines(file, lines)) === expected).toBe(true);
  });

  test('are found without reading the rest of a file', async () => {
    await using file = await open(path, 'w+');
    const gibibyte = 2 ** 30;
    await file.write('\nlast\n', gibibyte);
    const before = process.memoryUsage.rss();
    expect(await offsetOfLastLines(file, 1)).toBe(gibibyte + 1);
    expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 28);
  });
});
