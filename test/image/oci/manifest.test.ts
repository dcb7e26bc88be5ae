import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { VmctlError } from '../../../src/errors.js';
import { parseChallenges } from '../../../src/image/oci/challenge.js';
import { checksumOf, chooseManifest, diskLayer, parseManifest, platformOf } from '../../../src/image/oci/manifest.js';

const SHOWN = 'oci://r.example/a:1';
const digest = (character: string): string => `sha256:${character.repeat(64)}`;
const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digest('c'), size: 2 };

interface Layer {
  readonly type: string;
  readonly title?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

function chosen(layers: readonly Layer[]): string {
  const described = layers.map(({ type, title, annotations = {} }, at) => ({
    mediaType: type,
    digest: digest(String(at)),
    size: 1,
    annotations: { ...annotations, ...(title === undefined ? {} : { 'org.opencontainers.image.title': title }) },
  }));
  const manifest = parseManifest(Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers: described })), SHOWN);
  if (manifest.manifests !== undefined) throw new Error('that is an index');
  return diskLayer(manifest, SHOWN).mediaType;
}

function refusal(work: () => unknown): VmctlError {
  try {
    work();
  } catch (error) {
    if (error instanceof VmctlError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

describe('the disk of an image', () => {
  test.each([
    'application/vnd.cloudnebula.qcow2.layer.v1',
    'application/vnd.lfedge.disk.layer.v1+qcow2',
    'application/vnd.lfedge.disk.layer.v1+raw',
    'application/vnd.qemu.qcow2',
    'application/vnd.qemu.disk.qcow2',
    'application/vnd.diskimage.qcow2',
    'application/vnd.diskimage.raw.gzip',
    'application/vnd.com.linbit.virter.layer.v1.qcow2.gzip',
    'application/io.gardenlinux.image.format.qcow2',
    'application/x-qemu-disk',
    'application/x-raw-disk-image',
    'application/octet-stream',
    'application/octet-stream+zstd',
    'application/zstd',
    'application/x-xz',
  ])('may be of the type %s, whatever is beside it', (type) => {
    expect(chosen([{ type: 'application/json' }, { type }, { type: 'text/markdown', title: 'README.md' }])).toBe(type);
  });

  test.each(['disk.qcow2', 'disk.img', 'DISK.RAW', 'machine.x86_64.qemu.qcow2.zst', 'disk.img.xz'])(
    'may be told by its title %s, as ORAS pushes it when nobody names a type',
    (title) => {
      const type = 'application/vnd.oci.image.layer.v1.tar';
      expect(
        chosen([
          { type: 'application/octet-stream', title: 'README.md' },
          { type, title },
        ]),
      ).toBe(type);
    },
  );

  test.each([
    [[{ type: 'application/vnd.oci.image.layer.v1.tar+gzip' }, { type: 'application/vnd.oci.image.layer.v1.tar' }]],
    [[{ type: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }]],
  ])('is not in a container image: %j', (layers) => {
    expect(refusal(() => chosen(layers))).toMatchObject({
      code: 'IMAGE_INVALID',
      message: `${SHOWN} is a container image, not a disk image`,
      fields: { reason: 'is a container image, not a disk image' },
    });
  });

  test('is not chosen from several', () => {
    const type = 'application/vnd.qemu.qcow2';
    const error = refusal(() =>
      chosen([{ type, title: 'a.qcow2' }, { type: 'text/plain' }, { type, title: 'b.qcow2' }]),
    );
    expect(error).toMatchObject({
      code: 'IMAGE_INVALID',
      message: `${SHOWN} has several disk images`,
      details: `${type}  1 bytes  ${digest('0')}  a.qcow2\n${type}  1 bytes  ${digest('2')}  b.qcow2`,
    });
  });

  test('is missed, with what there is, and with nothing that moves the cursor', () => {
    const error = refusal(() =>
      chosen([{ type: 'text/plain', title: 'a\u001b[2J' }, { type: 'application/vnd.raw+json' }]),
    );
    expect(error.message).toBe(`${SHOWN} has no layer that is a disk image`);
    expect(error.details).toBe(
      `text/plain  1 bytes  ${digest('0')}  a[2J\napplication/vnd.raw+json  1 bytes  ${digest('1')}  `.trim(),
    );
    expect(refusal(() => chosen([])).details).toBe('It has no layers at all.');
  });

  test('is not a folder that ORAS has packed', () => {
    const layers = [
      {
        type: 'application/vnd.oci.image.layer.v1.tar+gzip',
        title: 'disks.raw',
        annotations: { 'io.deis.oras.content.unpack': 'true' },
      },
    ];
    expect(refusal(() => chosen(layers)).code).toBe('IMAGE_INVALID');
  });
});

describe('a manifest', () => {
  test.each([
    ['no JSON', '{'],
    ['neither layers nor manifests', '{"schemaVersion":2}'],
    ['both layers and manifests', JSON.stringify({ config, layers: [], manifests: [] })],
    ['a digest of no known kind', JSON.stringify({ config, layers: [{ digest: 'md5:00', size: 1 }] })],
    ['a digest that leads elsewhere', JSON.stringify({ config, layers: [{ digest: '../../x', size: 1 }] })],
    ['a size that is none', JSON.stringify({ config, layers: [{ digest: digest('0'), size: -1 }] })],
  ])('with %s is refused', (_what, content) => {
    expect(refusal(() => parseManifest(Buffer.from(content), SHOWN))).toMatchObject({
      code: 'IMAGE_INVALID',
      message: `${SHOWN} has no manifest that can be understood`,
    });
  });

  test('of Docker’s first kind is a container image', () => {
    const old = Buffer.from(JSON.stringify({ schemaVersion: 1, fsLayers: [] }));
    expect(refusal(() => parseManifest(old, SHOWN)).message).toContain('is a container image in a format of 2014');
  });
});

describe('the image of an index', () => {
  const entry = (character: string, platform: object | null, annotations: object = {}) => ({
    mediaType: 'x',
    digest: digest(character),
    size: 1,
    annotations,
    ...(platform === null ? {} : { platform }),
  });
  const choose = (entries: readonly object[], node = 'x64'): string => {
    const index = parseManifest(Buffer.from(JSON.stringify({ manifests: entries })), SHOWN);
    if (index.manifests === undefined) throw new Error('that is no index');
    return chooseManifest(index, platformOf(node), SHOWN).digest.slice(7, 8);
  };
  const amd64 = { os: 'linux', architecture: 'amd64' };

  test('is that of the architecture, in the words of the registry or of other tools', () => {
    const others = [
      entry('1', { os: 'linux', architecture: 'aarch64' }),
      entry('2', { os: 'windows', architecture: 'amd64' }),
    ];
    expect(choose([...others, entry('3', amd64)])).toBe('3');
    expect(choose([...others, entry('3', { os: 'linux', architecture: 'x86_64' })])).toBe('3');
    expect(choose([...others, entry('3', amd64)], 'arm64')).toBe('1');
  });

  test('is that for any processor of the kind where there are variants', () => {
    expect(
      choose([entry('1', { ...amd64, variant: 'v3' }), entry('2', { ...amd64, variant: 'v2' }), entry('3', amd64)]),
    ).toBe('3');
    expect(choose([entry('1', { ...amd64, variant: 'v3' }), entry('2', { ...amd64, variant: 'v2' })])).toBe('2');
    const arm = { os: 'linux', architecture: 'arm64' };
    expect(choose([entry('1', { ...arm, variant: 'v9' }), entry('2', { ...arm, variant: 'v8' })], 'arm64')).toBe('2');
  });

  test('is that for QEMU where there are several hypervisors', () => {
    const images = ['applehv', 'qemu', 'hyperv'].map((disktype, at) => entry(String(at), amd64, { disktype }));
    expect(choose(images)).toBe('1');
  });

  test('is the only one where that has no platform, and no attestation counts', () => {
    const attestation = entry('2', amd64, { 'vnd.docker.reference.type': 'attestation-manifest' });
    expect(choose([entry('1', null), attestation])).toBe('1');
    expect(refusal(() => choose([attestation])).details).toBe('It has none at all.');
    expect(refusal(() => choose([entry('1', null), entry('3', null)])).details).toContain('no platform');
  });
});

test('a digest is a checksum', () => {
  expect(checksumOf(digest('a'))).toEqual({ algorithm: 'sha256', digest: 'a'.repeat(64) });
  expect(checksumOf(`sha512:${'b'.repeat(128)}`)).toEqual({ algorithm: 'sha512', digest: 'b'.repeat(128) });
});

describe('a challenge', () => {
  const parsed = (...fields: readonly string[]) =>
    parseChallenges(fields).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

  test.each([
    [['Basic realm="x"'], [['basic', { realm: 'x' }]]],
    [
      ['Bearer realm="https://a/t",service="b c",scope="repository:a:pull,push"'],
      [['bearer', { realm: 'https://a/t', service: 'b c', scope: 'repository:a:pull,push' }]],
    ],
    [['bearer Realm = x , service=y'], [['bearer', { realm: 'x', service: 'y' }]]],
    [
      ['Basic realm="a \\"b\\"", Bearer realm=c'],
      [
        ['basic', { realm: 'a "b"' }],
        ['bearer', { realm: 'c' }],
      ],
    ],
    [
      ['Negotiate', 'Basic realm=x'],
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    [
      ['Negotiate, Basic realm=x'],
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    [[''], []],
    [['realm=x'], []],
    [['Bearer realm="x'], [['bearer', {}]]],
  ])('%j is %j', (fields, expected) => {
    expect(parsed(...fields).slice(0, expected.length)).toEqual(expected);
  });
});
