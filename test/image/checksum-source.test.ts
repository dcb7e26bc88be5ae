import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Agent } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { fetchChecksum } from '../../src/image/checksum-source.js';
import { TransientFailure } from '../../src/image/http.js';
import { runCommand } from '../../src/util/exec.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';
import { type HttpServer, type Reply, startHttpServer } from '../support/http-server.js';

const A = '47f2218668dd4776be140dd92fa3bea700be1766e2c7d88bdfd6a4b50f477b4d';
const B = '06e6305fcd5b7dc56c2937b6b127ca8e3c0d7ea8218b5a073d3cd7bf93211e37';
const IMAGE = new URL('https://example.org/images/disk.qcow2?token=secret#x');

let server: HttpServer;
let agent: Agent;
let directory: TemporaryDirectory;

beforeEach(async () => {
  server = await startHttpServer();
  agent = new Agent();
  directory = await temporaryDirectory();
});

afterEach(async () => {
  await agent.destroy();
  await server[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function fetched(url: string, image = IMAGE, signal = new AbortController().signal) {
  return fetchChecksum({ algorithm: 'list', url }, image, { dispatcher: agent, signal, stallMs: 200 });
}

/** What `fetchChecksum` throws for a list that is served so; a failure that may pass is marked. */
async function failureOf(url: string, image = IMAGE) {
  const error: unknown = await fetched(url, image).catch((thrown: unknown) => thrown);
  const inner = error instanceof TransientFailure ? error.error : error;
  if (!(inner instanceof VmctlError)) throw new Error('it did not fail as it should', { cause: error });
  const { code, message, hint, fields } = inner;
  return { transient: error instanceof TransientFailure, code, message, hint, fields };
}

describe('a list on a server', () => {
  it('is asked for once, and the file is the last part of the image’s path', async () => {
    server.serve('/SUMS', { body: `${B}  other\n${A}  disk.qcow2\n` });
    expect(await fetched(server.url('/SUMS'))).toEqual({ algorithm: 'sha256', digest: A });
    expect(server.requests.map(({ path }) => path)).toEqual(['/SUMS']);
  });

  it('is matched by the name that an escaped URL means', async () => {
    server.serve('/SUMS', { body: `${A}  my disk+1.qcow2\n` });
    const image = new URL('https://example.org/my%20disk+1.qcow2');
    expect(await fetched(server.url('/SUMS'), image)).toEqual({ algorithm: 'sha256', digest: A });
  });

  it('may come in pieces, through a redirect, with characters of several bytes', async () => {
    server.serve('/SUMS', { status: 302, headers: { location: '/elsewhere' } });
    server.serve('/elsewhere', { body: `# ${'ü'.repeat(200_000)}\n${A}  disk.qcow2\n`, contentLength: null });
    expect(await fetched(server.url('/SUMS'))).toEqual({ algorithm: 'sha256', digest: A });
  });

  const LIST_HINT = 'Check the URL in `checksum`, or give the digest itself: checksum "sha256:…".';

  interface Refusal {
    readonly list: string;
    readonly reply: Reply;
    readonly code: string;
    readonly message: string;
    readonly hint?: string;
  }

  it.each<Refusal>([
    {
      list: 'has another file',
      reply: { body: `${A}  disk.raw\n${A}  README\n` },
      code: 'IMAGE_CHECKSUM',
      message: 'the checksum list LIST has no disk.qcow2',
    },
    {
      list: 'has similar files',
      reply: { body: `${A}  disk-arm64.qcow2\n${A}  disk-arm64.raw\n` },
      code: 'IMAGE_CHECKSUM',
      message: 'the checksum list LIST has no disk.qcow2',
      hint: 'It has similar ones: disk-arm64.qcow2. Check the URLs of image and checksum.',
    },
    {
      list: 'has old algorithms alone',
      reply: { body: `${A.slice(32)}  disk.qcow2\n${A.slice(24)}  disk.qcow2\n` },
      code: 'IMAGE_CHECKSUM',
      message: 'the checksum list LIST has only MD5 and SHA1 for disk.qcow2',
      hint: 'vmctl takes sha256 and sha512 only. Look for a SHA256SUMS or SHA512SUMS file beside it.',
    },
    {
      list: 'contradicts itself',
      reply: { body: `${A}  disk.qcow2\n${B}  disk.qcow2\n` },
      code: 'IMAGE_CHECKSUM',
      message: 'the checksum list LIST has 2 different sha256 digests for disk.qcow2',
      hint: 'Give the right one itself: checksum "sha256:…".',
    },
    {
      list: 'is a web page',
      reply: { body: '<!doctype html><title>Log in</title>' },
      code: 'IMAGE_CHECKSUM',
      message: 'LIST is no checksum list for disk.qcow2: it is a web page',
    },
    {
      list: 'is larger than 4 MiB',
      reply: { body: `${A}  disk.qcow2\n`.padEnd(4 * 1024 ** 2 + 1) },
      code: 'IMAGE_CHECKSUM',
      message: 'the checksum list LIST for disk.qcow2 is larger than 4 MiB',
      hint: 'Name the list of checksums, as SHA256SUMS, and not the image.',
    },
    {
      list: 'is not there',
      reply: { status: 404 },
      code: 'IMAGE_NOT_FOUND',
      message: 'there is no checksum list at LIST (HTTP 404) to look for disk.qcow2 in',
    },
    {
      list: 'is for others',
      reply: { status: 403 },
      code: 'IMAGE_DOWNLOAD',
      message: 'no checksum for disk.qcow2: cannot download LIST: the server answered with HTTP 403',
      hint: 'The server wants you to log in, or refuses you.',
    },
  ])('that $list is refused with both names', async ({ reply, code, message, hint = LIST_HINT }) => {
    server.serve('/SUMS', reply);
    const list = server.url('/SUMS');
    expect(await failureOf(list)).toMatchObject({
      transient: false,
      code,
      message: message.replace('LIST', list),
      hint,
      fields: { url: list, file: 'disk.qcow2' },
    });
  });

  it.each([
    ['fails', { status: 503, headers: { 'retry-after': '7' } }, 'the server answered with HTTP 503'],
    ['breaks off', { body: `${A}  disk.qcow2\n`, dropAfter: 40 }, ''],
    ['stalls', { body: `${A}  disk.qcow2\n`, stallAfter: 40 }, 'the server sent nothing for 0.2 s'],
    ['ends too early', { body: `${A}  disk.qcow2\n`, contentLength: 1000 }, ''],
  ] as const)('that %s may come with another attempt', async (_, reply, reason) => {
    server.serve('/SUMS', reply);
    const failure = await failureOf(server.url('/SUMS'));
    expect(failure).toMatchObject({ transient: true, code: 'IMAGE_DOWNLOAD' });
    expect(failure.message).toMatch(/^no checksum for disk\.qcow2: cannot download http:.*\/SUMS: /);
    expect(failure.message).toContain(reason);
  });

  it('keeps what the server said of coming back', async () => {
    server.serve('/SUMS', { status: 503, headers: { 'retry-after': '7' } });
    await expect(fetched(server.url('/SUMS'))).rejects.toMatchObject({ retryAfterMs: 7000 });
  });

  it('is not waited for any longer once it is not wanted', async () => {
    const abort = new AbortController();
    server.serve('/SUMS', { body: `${A}  disk.qcow2\n`, stallAfter: 5 });
    const work = fetched(server.url('/SUMS'), IMAGE, abort.signal);
    await server.requested(1);
    abort.abort();
    await expect(work).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('gets the password of its URL, and no message shows it', async () => {
    server.serve('/SUMS', { body: `${A}  disk.qcow2\n` }, { status: 403 });
    const url = server.url('/SUMS').replace('//', '//me:secret@');
    expect(await fetched(url)).toEqual({ algorithm: 'sha256', digest: A });
    expect(server.requests[0]?.headers.authorization).toBe(`Basic ${Buffer.from('me:secret').toString('base64')}`);
    expect(JSON.stringify(await failureOf(url))).not.toContain('secret');
  });
});

describe('a list in a file', () => {
  it('is read, also through a link and with spaces in its path', async () => {
    const path = join(directory.path, 'my SUMS');
    await writeFile(path, `${A}  disk.qcow2\n`);
    await symlink(path, join(directory.path, 'link'));
    for (const one of [path, join(directory.path, 'link')]) {
      expect(await fetched(pathToFileURL(one).href)).toEqual({ algorithm: 'sha256', digest: A });
    }
  });

  it('that is not there is named', async () => {
    const url = pathToFileURL(join(directory.path, 'SUMS')).href;
    expect(await failureOf(url)).toMatchObject({
      code: 'IMAGE_NOT_FOUND',
      message: `there is no checksum list at ${url} (no such file) to look for disk.qcow2 in`,
    });
  });

  it('is a file, and no folder or pipe', async () => {
    const [folder, pipe] = [join(directory.path, 'folder'), join(directory.path, 'pipe')];
    await mkdir(folder);
    await runCommand('mkfifo', [pipe]);
    for (const path of [folder, pipe]) {
      expect(await failureOf(pathToFileURL(path).href)).toMatchObject({ code: 'IMAGE_NOT_FOUND' });
    }
  });

  it('is not read beyond 4 MiB', async () => {
    const path = join(directory.path, 'SUMS');
    await writeFile(path, `${A}  disk.qcow2\n`.padEnd(4 * 1024 ** 2 + 1));
    expect(await failureOf(pathToFileURL(path).href)).toMatchObject({ code: 'IMAGE_CHECKSUM' });
  });
});

it('no other place can have a list', async () => {
  expect(await failureOf('ftp://example.org/SUMS')).toMatchObject({ code: 'UNSUPPORTED' });
});
