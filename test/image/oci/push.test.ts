/** Pushing to a registry that misbehaves, and the command that pushes. */
import { mkdtemp, open, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type PushedImage, pushImage } from '../../../src/image/oci/push.js';
import { parseOciReference } from '../../../src/image/oci/reference.js';
import type { RegistryOptions } from '../../../src/image/oci/registry.js';
import { inspectImage } from '../../../src/image/qemu-img.js';
import { silentReporter } from '../../../src/model/event.js';
import { runCommand } from '../../../src/util/exec.js';
import { CountingAgent, login, registryOptions } from '../../support/oci-client.js';
import { startDockerRegistry } from '../../support/oci-docker-registry.js';
import { type Asked, OciRegistry, USER, digestOf } from '../../support/oci-registry.js';
import { Rig } from '../../support/rig.js';
import { failure } from '../../support/failure.js';

const MIB = 1024 ** 2;
const UPLOADS = '/v2/a/disk/blobs/uploads/';

let root: string;
let disk: string;
let agent: CountingAgent;

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'vmctl-push-')));
  disk = join(root, 'disk.raw');
  await writeDisk(MIB);
  agent = new CountingAgent();
});

afterEach(async () => {
  await agent[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

async function writeDisk(bytes: number): Promise<void> {
  const file = await open(disk, 'w');
  await file.truncate(bytes);
  await file.close();
}

async function push(host: string, more: Partial<RegistryOptions> = {}): Promise<PushedImage> {
  const target = { reference: parseOciReference(`oci://${host}/a/disk:1`), platform: { architecture: 'amd64' } };
  return pushImage(await inspectImage(disk), target, registryOptions(agent, more));
}

const isUpload = ({ method, path }: Asked): boolean => method === 'PUT' && path.startsWith(UPLOADS);

describe('a push', () => {
  test('makes an artifact whose manifest tells what it is, where it is from, and for which processor', async () => {
    await using registry = await OciRegistry.start();
    const pushed = await push(registry.host);
    const { bytes, mediaType } = registry.manifests.get('1') ?? {};
    expect(mediaType).toBe('application/vnd.oci.image.manifest.v1+json');
    const manifest = JSON.parse(bytes?.toString('utf8') ?? '');
    expect(manifest).toEqual({
      schemaVersion: 2,
      mediaType,
      artifactType: 'application/vnd.cloudnebula.vm.v1',
      config: {
        mediaType: 'application/vnd.cloudnebula.qcow2.config.v1+json',
        digest: expect.any(String),
        size: expect.any(Number),
      },
      layers: [
        {
          mediaType: 'application/octet-stream',
          digest: pushed.digest,
          size: MIB,
          annotations: { 'org.opencontainers.image.title': 'disk.raw' },
        },
      ],
    });
    expect(registry.blobs.get(manifest.config.digest)?.toString('utf8')).toBe('{"architecture":"amd64"}');
    expect(registry.blobs.get(pushed.digest)).toHaveLength(MIB);
    expect(await registry.openUploads()).toEqual([]);
  });

  test('asks for a token that allows it', async () => {
    await using registry = await OciRegistry.start({ login: 'token' });
    await push(registry.host, { credentials: () => Promise.resolve(login) });
    const token = registry.requests.find(({ path }) => path.startsWith('/token'));
    expect(new URLSearchParams(token?.path.split('?')[1]).get('scope')).toBe('repository:a/disk:pull,push');
    expect(registry.asked().filter((one) => one.endsWith('/token'))).toHaveLength(1);
  });

  test('gets a new token when it has expired before the image is sent, and sends it whole', async () => {
    await using registry = await OciRegistry.start({ login: 'token' });
    let once = true;
    registry.misbehave = (asked) => {
      if (isUpload(asked) && once) {
        once = false;
        registry.expireTokens();
      }
      return null;
    };
    const { digest } = await push(registry.host, { credentials: () => Promise.resolve(login) });
    expect(registry.blobs.get(digest)).toHaveLength(MIB);
    expect(registry.requests.filter(isUpload)).toHaveLength(3);
  });

  test('begins again when an upload breaks off, and leaves none open', async () => {
    await using registry = await OciRegistry.start();
    let broken = 1;
    registry.misbehave = (asked) => (isUpload(asked) && broken-- > 0 ? { status: 503 } : null);
    await push(registry.host);
    expect(registry.asked().filter((one) => one.startsWith('DELETE'))).toHaveLength(1);
    expect(await registry.openUploads()).toEqual([]);
  });

  test('tells how far it is, to the end', async () => {
    await using registry = await OciRegistry.start();
    const progress: [number, number | null][] = [];
    const reporter = {
      ...silentReporter,
      progress: (bytes: number, total: number | null) => progress.push([bytes, total]),
    };
    await push(registry.host, { reporter });
    expect(progress.at(-1)).toEqual([MIB, MIB]);
  });

  test.each([
    [403, /does not let you push to a\/disk \(HTTP 403\)$/],
    [404, /does not let you push to a\/disk \(HTTP 404\)$/],
    [405, /takes no images \(HTTP 405\)$/],
    [413, /the server answered with HTTP 413$/],
  ])('that is answered with %d fails with what that means, and is not tried again', async (status, message) => {
    await using registry = await OciRegistry.start();
    registry.misbehave = ({ method }) => (method === 'POST' ? { status } : null);
    const error = await failure(push(registry.host));
    expect(error.code).toBe('IMAGE_UPLOAD');
    expect(error.message).toMatch(new RegExp(`^cannot push to oci://${registry.host}/a/disk:1: `));
    expect(error.message).toMatch(message);
    expect(registry.asked().filter((one) => one.startsWith('POST'))).toHaveLength(1);
  });

  test('to a registry that stores something else fails', async () => {
    await using registry = await OciRegistry.start();
    registry.headers = ({ method }) =>
      method === 'PUT' ? { 'docker-content-digest': `sha256:${'0'.repeat(64)}` } : {};
    expect((await failure(push(registry.host))).message).toContain('the registry has stored something else');
  });

  test('does not send the image where everybody could read it', async () => {
    await using registry = await OciRegistry.start();
    registry.headers = ({ method }) => (method === 'POST' ? { location: 'http://uploads.example.test/x' } : {});
    const error = await failure(push(registry.host));
    expect(error.message).toContain('wants the image at http://uploads.example.test, which is not encrypted');
    expect(registry.requests.filter(isUpload)).toEqual([]);
  });

  test('takes no password to another server where the upload goes', async () => {
    await using registry = await OciRegistry.start({ login: 'basic' });
    await using other = await OciRegistry.start();
    other.sessions.add('x');
    registry.headers = ({ method }) =>
      method === 'POST' ? { location: `http://${other.host}${UPLOADS}x?_state=a%2Bb` } : {};
    await failure(push(registry.host, { credentials: () => Promise.resolve(login) }));
    expect(other.requests.map(({ method, headers }) => [method, headers.authorization])).toContainEqual([
      'PUT',
      undefined,
    ]);
    expect(JSON.stringify(other.requests)).not.toContain('Basic');
  });

  test('by digest makes no sense', async () => {
    const reference = parseOciReference(`oci://r.example/a@sha256:${'0'.repeat(64)}`);
    const target = { reference, platform: { architecture: 'amd64' } };
    const error = await failure(pushImage(await inspectImage(disk), target, registryOptions(agent)));
    expect(error).toMatchObject({ code: 'USAGE', hint: 'Push to a tag: oci://r.example/a:latest.' });
  });

  describe.each([
    ['our own registry', () => OciRegistry.start()],
    ['docker-registry', () => startDockerRegistry()],
  ])('to %s that is interrupted', (_name, start) => {
    test('before anything was sent leaves no upload there', async () => {
      await using registry = await start();
      const controller = new AbortController();
      agent.onAsked = (request) => {
        if (request.startsWith('PUT')) controller.abort();
      };
      const error = await failure(push(registry.host, { signal: controller.signal }));
      expect(error.code).toBe('ABORTED');
      expect(agent.asked.at(-1)).toMatch(/^DELETE \/v2\/a\/disk\/blobs\/uploads\/./);
      expect(await registry.openUploads()).toEqual([]);
    });

    test('in the middle asks for the upload to be forgotten', async () => {
      // Far more than the buffers of a connection hold, so that the interruption comes in the middle.
      await writeDisk(64 * MIB);
      await using registry = await start();
      const controller = new AbortController();
      const reporter = { ...silentReporter, progress: () => controller.abort() };
      const error = await failure(push(registry.host, { signal: controller.signal, reporter }));
      expect(error.code).toBe('ABORTED');
      expect(agent.asked.slice(-2)).toEqual([
        expect.stringMatching(/^PUT \/v2\/a\/disk\/blobs\/uploads\/./),
        expect.stringMatching(/^DELETE \/v2\/a\/disk\/blobs\/uploads\/./),
      ]);
    });
  });
});

describe('vmctl image push', () => {
  test('prints the reference by digest, with docker’s credentials', async () => {
    await using rig = await Rig.create();
    await using registry = await startDockerRegistry({ login: true });
    const auth = Buffer.from(`${USER.username}:${USER.password}`).toString('base64');
    const folder = join(root, 'docker');
    await runCommand('mkdir', [folder]);
    await writeFile(join(folder, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth } } }));
    const variables = { DOCKER_CONFIG: folder };
    const reference = `oci://${registry.host}/team/disk:1`;
    const words = ['image', 'push', 'disk.raw', reference];
    const first = await rig.vmctl(words, { variables });
    expect(first.stderr).toMatch(/^note: raw for \w+, 1 MiB$/m);
    expect(first.exitCode).toBe(0);
    expect(first.stdout).toMatch(new RegExp(`^oci://${registry.host}/team/disk@sha256:[0-9a-f]{64}\n$`));
    const second = await rig.vmctl([...words, '--json'], { variables });
    expect(JSON.parse(second.stdout)).toEqual({
      schemaVersion: 1,
      reference: first.stdout.trim(),
      tagged: reference,
      manifestDigest: first.stdout.trim().replace(/.*@/, ''),
      path: join(rig.project, 'disk.raw'),
      format: 'raw',
      digest: digestOf(Buffer.alloc(MIB)),
      bytes: MIB,
      uploaded: false,
      architecture: expect.stringMatching(/^(?:amd64|arm64)$/),
    });
    const nobody = await rig.vmctl(words);
    expect(nobody).toMatchObject({ exitCode: 1, stdout: '' });
    expect(nobody.stderr).toContain(`hint: Log in: docker login ${registry.host}.`);
  });

  test('pushes for another processor when told', async () => {
    await using rig = await Rig.create();
    await using registry = await OciRegistry.start();
    const words = ['image', 'push', 'disk.raw', `oci://${registry.host}/a/disk`, '--arch'];
    expect((await rig.vmctl([...words, 'aarch64'])).exitCode).toBe(0);
    expect([...registry.blobs.values()].map(String)).toContain('{"architecture":"arm64"}');
    expect((await rig.vmctl([...words, 'ARM 64'])).exitCode).toBe(2);
  });

  test.each([
    ['oci://r.example', 'it names no repository'],
    ['https://r.example/a', 'it does not start with `oci://`'],
    [`oci://r.example/a@sha256:${'0'.repeat(64)}`, 'a digest comes of what is pushed'],
  ])('to %s is wrong usage', async (reference, problem) => {
    await using rig = await Rig.create();
    const { exitCode, stderr } = await rig.vmctl(['image', 'push', 'disk.raw', reference]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`cannot push to ${JSON.stringify(reference)}: ${problem}`);
  });

  test('pushes nothing that vmctl would refuse to boot', async () => {
    await using rig = await Rig.create();
    await using registry = await OciRegistry.start();
    await runCommand('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-b',
      disk,
      '-F',
      'raw',
      join(rig.project, 'o.qcow2'),
    ]);
    const { exitCode, stderr } = await rig.vmctl(['image', 'push', 'o.qcow2', `oci://${registry.host}/a/disk`]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('it has a backing file');
    expect(registry.requests).toEqual([]);
  });
});
