/** What holds between processes of vmctl, and for the programs that they start. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { pipeThrough, runCommand, startDetached } from '../../src/util/exec.js';
import { identifyProcess } from '../../src/util/process.js';
import { waitFor } from '../../src/util/wait.js';
import { startHttpServer } from '../support/http-server.js';

const MIB = 1024 ** 2;
const worker = fileURLToPath(new URL('fetch-worker.ts', import.meta.url));
const disk = randomBytes(2 * MIB);

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'vmctl-processes-'));
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

function workerWords(url: string): readonly string[] {
  return ['--import', 'jiti/register', worker, url, join(root, 'images')];
}

async function fetchElsewhere(url: string): Promise<string> {
  return (await runCommand(process.execPath, workerWords(url))).stdout;
}

describe('processes that want the same image', { timeout: 60_000 }, () => {
  test('make one request between them', async () => {
    await using server = await startHttpServer();
    server.serve('/disk.raw', { body: disk });
    const paths = await Promise.all([1, 2, 3].map(() => fetchElsewhere(server.url('/disk.raw'))));
    expect(new Set(paths).size).toBe(1);
    expect(server.requests).toHaveLength(1);
    expect(disk.equals(await readFile(paths[0] ?? ''))).toBe(true);
  });

  test('are not misled by one that was killed half-way', async () => {
    await using server = await startHttpServer();
    server.serve('/disk.raw', { body: disk, stallAfter: MIB }, { body: disk });
    const options = { cwd: process.cwd(), logFile: join(root, 'log') };
    const killed = await startDetached(process.execPath, workerWords(server.url('/disk.raw')), options);
    await server.requested(1);
    const images = join(root, 'images');
    await waitFor(async () => ((await readdir(images)).some((name) => name.endsWith('.part')) ? true : null), {
      timeoutMs: 20_000,
    });
    process.kill(killed.pid, 'SIGKILL');
    await killed.ended;
    const path = await fetchElsewhere(server.url('/disk.raw'));
    expect(disk.equals(await readFile(path))).toBe(true);
    expect((await readdir(images)).filter((name) => name.startsWith('.'))).toEqual([]);
  });
});

describe('a program that a stream goes through', () => {
  const into = (): { output: Writable; text: () => string } => {
    let text = '';
    const output = new Writable({
      write: (chunk: Buffer, _, done) => {
        text += chunk.toString();
        done();
      },
    });
    return { output, text: () => text };
  };

  async function failure(work: Promise<unknown>): Promise<unknown> {
    return work.then(
      () => null,
      (error: unknown) => error,
    );
  }

  test('gets the input and gives the output', async () => {
    const { output, text } = into();
    await pipeThrough('tr', ['a-z', 'A-Z'], { input: Readable.from(['hello ', 'world']), output });
    expect(text()).toBe('HELLO WORLD');
    expect(output.writableFinished).toBe(true);
  });

  test('is gone when the work is cancelled', async () => {
    const input = new PassThrough();
    const { output, text } = into();
    const controller = new AbortController();
    const work = failure(pipeThrough('sh', ['-c', 'echo $$; exec cat'], { input, output, signal: controller.signal }));
    await waitFor(async () => (text().endsWith('\n') ? true : null), { timeoutMs: 20_000 });
    controller.abort();
    expect(await work).toMatchObject({ code: 'ABORTED' });
    expect(await identifyProcess(Number(text()))).toBeNull();
    expect([input.destroyed, output.destroyed]).toEqual([true, true]);
  });

  test('is gone when the input breaks off, and the error is that of the input', async () => {
    const input = new PassThrough();
    const { output, text } = into();
    const work = failure(pipeThrough('sh', ['-c', 'echo $$; exec sleep 60'], { input, output }));
    await waitFor(async () => (text().endsWith('\n') ? true : null), { timeoutMs: 20_000 });
    input.destroy(new Error('the line is dead'));
    expect(await work).toEqual(new Error('the line is dead'));
    expect(await identifyProcess(Number(text()))).toBeNull();
  });

  test('is gone when the output cannot be written, and the error is that of the output', async () => {
    const output = new Writable({ write: (_chunk, _encoding, done) => done(new Error('the disk is full')) });
    const work = failure(pipeThrough('yes', [], { input: new PassThrough(), output }));
    expect(await work).toEqual(new Error('the disk is full'));
  });

  test('that fails is quoted', async () => {
    const words = ['-c', 'cat >/dev/null; echo one >&2; echo two >&2; exit 3'];
    const error = await failure(pipeThrough('sh', words, { input: Readable.from(['x']), output: into().output }));
    expect(error).toBeInstanceOf(VmctlError);
    expect(error).toMatchObject({ code: 'COMMAND_FAILED', message: 'sh failed: two', fields: { exitCode: 3 } });
  });

  test('that is not there is said to be missing', async () => {
    const error = await failure(
      pipeThrough('no-such-tool', [], { input: Readable.from(['x']), output: into().output }),
    );
    expect(error).toMatchObject({ code: 'HOST_UNSUPPORTED', message: 'no-such-tool is not installed or not in PATH' });
  });

  test('keeps no more in memory than the streams do', async () => {
    let bytes = 0;
    const output = new Writable({
      write: (chunk: Buffer, _, done) => {
        bytes += chunk.length;
        done();
      },
    });
    const chunk = Buffer.alloc(MIB);
    const input = Readable.from(Array.from({ length: 256 }, () => chunk));
    const before = process.memoryUsage().rss;
    await pipeThrough('cat', [], { input, output });
    expect(bytes).toBe(256 * MIB);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * MIB);
  });
});
