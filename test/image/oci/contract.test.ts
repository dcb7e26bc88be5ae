/** Pushing and pulling, against Debian's docker-registry and against the registry that the other tests use. */
import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, realpath, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pushImage } from '../../../src/image/oci/push.js';
import { type OciReference, ociText, parseOciReference } from '../../../src/image/oci/reference.js';
import { inspectImage } from '../../../src/image/qemu-img.js';
import { runCommand } from '../../../src/util/exec.js';
import { CountingAgent, client, login, registryOptions } from '../../support/oci-client.js';
import { startDockerRegistry } from '../../support/oci-docker-registry.js';
import { OciRegistry } from '../../support/oci-registry.js';
import { failure } from '../../support/failure.js';

const MIB = 1024 ** 2;
const AMD64 = { architecture: 'amd64' };

interface Kind {
  readonly name: string;
  readonly wantsLogin: boolean;
  readonly start: () => Promise<{ readonly host: string } & AsyncDisposable>;
}

const KINDS: readonly Kind[] = [
  { name: 'docker-registry', wantsLogin: false, start: () => startDockerRegistry() },
  {
    name: 'docker-registry with relative URLs',
    wantsLogin: false,
    start: () => startDockerRegistry({ relativeUrls: true }),
  },
  { name: 'docker-registry with a login', wantsLogin: true, start: () => startDockerRegistry({ login: true }) },
  { name: 'our own registry', wantsLogin: false, start: () => OciRegistry.start() },
  {
    name: 'our own registry with relative URLs',
    wantsLogin: false,
    start: () => OciRegistry.start({ relativeUrls: true }),
  },
  { name: 'our own registry with a login', wantsLogin: true, start: () => OciRegistry.start({ login: 'basic' }) },
  { name: 'our own registry with tokens', wantsLogin: true, start: () => OciRegistry.start({ login: 'token' }) },
];

describe.each(KINDS)('$name', ({ wantsLogin, start }) => {
  let root: string;
  let disk: string;
  let registry: Awaited<ReturnType<Kind['start']>>;
  let agent: CountingAgent;
  const credentials = () => Promise.resolve(wantsLogin ? login : null);
  const target = (): OciReference => parseOciReference(`oci://${registry.host}/a/disk:1`);
  const push = async (path: string) => {
    const image = await inspectImage(path);
    return pushImage(image, { reference: target(), platform: AMD64 }, registryOptions(agent, { credentials }));
  };
  const pulling = (reference = target()) => client(ociText(reference), agent, { credentials });

  beforeEach(async () => {
    root = await realpath(await mkdtemp(join(tmpdir(), 'vmctl-oci-')));
    disk = join(root, 'disk.qcow2');
    await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=falloc', disk, '3M']);
    agent = new CountingAgent();
    registry = await start();
  });

  afterEach(async () => {
    await agent[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });

  test('gives back the bytes that were pushed, by tag and by digest', async () => {
    const pushed = await push(disk);
    const bytes = await readFile(disk);
    expect(pushed).toMatchObject({ digest: digestOf(bytes), bytes: bytes.length, uploaded: true });
    expect(await pulling().resolveDigest()).toBe(pushed.manifestDigest);
    for (const reference of [target(), pushed.reference]) {
      const pulled = pulling(reference);
      const image = await pulled.resolveImage(AMD64);
      expect(image).toEqual({
        digest: pushed.manifestDigest,
        manifestDigest: pushed.manifestDigest,
        layer: {
          digest: digestOf(bytes),
          bytes: bytes.length,
          mediaType: 'application/vnd.cloudnebula.qcow2.layer.v1',
          title: 'disk.qcow2',
        },
      });
      const whole = await pulled.openBlob(image.layer, { from: 0 }, registryOptions(agent));
      expect(whole).toMatchObject({ from: 0, totalBytes: bytes.length, validator: `"${digestOf(bytes)}"` });
      expect(digestOf(await all(whole.body))).toBe(digestOf(bytes));
      const rest = await pulled.openBlob(image.layer, { from: MIB }, registryOptions(agent));
      expect(rest).toMatchObject({ from: MIB, totalBytes: bytes.length });
      expect(digestOf(await all(rest.body))).toBe(digestOf(bytes.subarray(MIB)));
    }
  });

  test('takes a raw disk, and is not sent again what it has', async () => {
    const raw = join(root, 'disk.raw');
    const file = await open(raw, 'w');
    await file.truncate(MIB);
    await file.close();
    const first = await push(raw);
    agent.asked.length = 0;
    const second = await push(raw);
    expect(second).toEqual({ ...first, uploaded: false });
    expect(agent.asked.filter((request) => /uploads/.test(request))).toEqual([]);
    const { layer } = await pulling().resolveImage(AMD64);
    expect(layer).toMatchObject({ mediaType: 'application/octet-stream', bytes: (await stat(raw)).size });
  });

  test('tells with one request that nothing has changed, once it knows who asks', async () => {
    await push(disk);
    const asking = pulling();
    await asking.resolveDigest();
    agent.asked.length = 0;
    await asking.resolveDigest();
    expect(agent.asked).toEqual(['HEAD /v2/a/disk/manifests/1']);
  });

  test('does not know another tag, another repository, or another blob', async () => {
    await push(disk);
    const tag = `oci://${registry.host}/a/disk:2`;
    const unknown = await failure(client(tag, agent, { credentials }).resolveImage(AMD64));
    expect(unknown).toMatchObject({ code: 'IMAGE_NOT_FOUND', message: `there is no ${tag}` });
    expect((await failure(client(tag, agent, { credentials }).resolveDigest())).code).toBe('IMAGE_NOT_FOUND');
    const none = await failure(client(`oci://${registry.host}/nothing/here:2`, agent, { credentials }).resolveDigest());
    expect(none.code).toBe('IMAGE_NOT_FOUND');
    const layer = { digest: `sha256:${'0'.repeat(64)}`, bytes: 1, mediaType: '', title: null };
    expect((await failure(pulling().openBlob(layer, { from: 0 }, registryOptions(agent)))).code).toBe(
      'IMAGE_NOT_FOUND',
    );
  });

  test('has an image for one architecture, which another one notices', async () => {
    await push(disk);
    const wrong = await failure(pulling().resolveImage({ architecture: 'arm64' }));
    expect(wrong).toMatchObject({
      code: 'IMAGE_NOT_FOUND',
      message: `${ociText(target())} is for amd64, and this host is arm64`,
    });
  });
});

describe.each(KINDS.filter(({ wantsLogin }) => wantsLogin))('$name', ({ start }) => {
  test('tells nothing to somebody whom it does not know, and how to log in', async () => {
    await using registry = await start();
    await using agent = new CountingAgent();
    const reference = `oci://${registry.host}/a/disk:1`;
    expect(await failure(client(reference, agent).resolveDigest())).toMatchObject({
      code: 'IMAGE_DOWNLOAD',
      message: `${registry.host} wants a login for ${reference}, or there is no such image`,
      hint: `Log in: docker login ${registry.host}.`,
    });
    const credentials = () => Promise.resolve({ ...login, password: 'not that' } as const);
    const refused = await failure(client(reference, agent, { credentials }).resolveImage(AMD64));
    expect(refused).toMatchObject({
      code: 'IMAGE_DOWNLOAD',
      message: `${registry.host} refuses the credentials from the test for ${reference}`,
      hint: `Log in again: docker login ${registry.host}.`,
    });
    expect(JSON.stringify(refused)).not.toContain('not that');
  });
});

async function all(body: Readable): Promise<Uint8Array> {
  return buffer(body);
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
