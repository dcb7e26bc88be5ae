import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { SourceFile } from '../../src/model/source.js';
import type { VmSpec } from '../../src/model/spec.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { resolveProject } from '../../src/vmfile/resolve.js';
import { diagnose, OPTIONS, sourceOf } from './report.js';

function fixture(name: string): SourceFile {
  return sourceOf(readFileSync(join(import.meta.dirname, `../fixtures/vmfile/valid/${name}.kdl`), 'utf8'));
}

/** A definition without its places: every `{ value, span }` becomes its value. */
function withoutPlaces(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutPlaces);
  if (typeof value !== 'object' || value === null) return value;
  if ('value' in value && 'span' in value) return withoutPlaces(value.value);
  const entries = Object.entries(value).filter(([key]) => key !== 'span');
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutPlaces(inner)]));
}

function definitionsOf(source: SourceFile): unknown {
  const { project, diagnostics } = parseVmFile(source);
  expect(diagnostics).toStrictEqual([]);
  expect(project.source).toBe(source);
  return withoutPlaces(project.vms);
}

function specsOf(source: SourceFile): readonly VmSpec[] {
  const { specs, diagnostics } = resolveProject(parseVmFile(source).project, OPTIONS);
  expect(diagnostics).toStrictEqual([]);
  return specs;
}

const DIGEST = '9f0c000000000000000000000000000000000000000000000000000000000000';

const DEFAULTS: Omit<VmSpec, 'name' | 'image'> = {
  group: null,
  project: '/project/VMFile.kdl',
  vcpus: 1,
  memoryMib: 1024,
  diskBytes: null,
  firmware: 'bios',
  network: { kind: 'user', forwards: [], lan: null },
  cloudInit: null,
  ssh: { declared: false, user: 'vm', privateKey: null, timeoutSeconds: null },
  dependsOn: [],
  ready: null,
  provision: [],
  warm: null,
};

describe('the example of the specification', () => {
  const source = fixture('spec-example');

  it('has nothing wrong with it', async () => {
    expect(await diagnose(source)).toStrictEqual([]);
  });

  it('is read as it is written', () => {
    expect(definitionsOf(source)).toStrictEqual([
      {
        name: 'web',
        image: { kind: 'url', url: 'https://cloud.example.org/debian-12-genericcloud-amd64.qcow2' },
        checksum: `sha256:${DIGEST.toUpperCase()}`,
        vcpus: 2,
        memory: 2048,
        disk: 21_474_836_480,
        network: { kind: 'user', forwards: [{ host: 8080, guest: 80 }] },
        cloudInit: { hostname: 'web' },
        ssh: { user: 'debian' },
        dependsOn: ['db'],
        provision: [
          { kind: 'shell', command: { kind: 'inline', text: 'sudo apt-get install -y nginx' }, environment: [] },
          { kind: 'file', source: 'site.conf', destination: '/tmp/site.conf' },
          { kind: 'shell', command: { kind: 'script', path: 'setup.sh' }, environment: [] },
        ],
      },
      { name: 'db', image: { kind: 'path', path: 'disk.qcow2' }, dependsOn: [], provision: [] },
    ]);
  });

  it('becomes specs with every default filled in', () => {
    expect(specsOf(source)).toStrictEqual([
      {
        ...DEFAULTS,
        name: 'web',
        image: {
          kind: 'url',
          url: 'https://cloud.example.org/debian-12-genericcloud-amd64.qcow2',
          checksum: { algorithm: 'sha256', digest: DIGEST },
        },
        vcpus: 2,
        memoryMib: 2048,
        diskBytes: 21_474_836_480,
        network: { kind: 'user', forwards: [{ host: 8080, guest: 80 }], lan: null },
        cloudInit: { hostname: 'web', userData: { kind: 'generated-key' }, networkConfig: null },
        ssh: { declared: true, user: 'debian', privateKey: null, timeoutSeconds: null },
        dependsOn: ['db'],
        provision: [
          {
            kind: 'shell',
            command: { kind: 'inline', text: 'sudo apt-get install -y nginx' },
            environment: {},
            run: 'always',
            timeoutSeconds: null,
          },
          {
            kind: 'file',
            source: '/project/site.conf',
            destination: '/tmp/site.conf',
            run: 'always',
            timeoutSeconds: null,
          },
          {
            kind: 'shell',
            command: { kind: 'script', path: '/project/setup.sh' },
            environment: {},
            run: 'always',
            timeoutSeconds: null,
          },
        ],
      },
      { ...DEFAULTS, name: 'db', image: { kind: 'file', path: '/project/disk.qcow2' } },
    ]);
  });
});

describe('a VMFile with everything that the language has', () => {
  const source = fixture('everything');

  it('becomes specs', () => {
    const [all, raw, preset, ...more] = specsOf(source);
    expect(more).toStrictEqual([]);
    expect(all).toStrictEqual({
      ...DEFAULTS,
      name: 'all-of.it_1',
      image: { kind: 'file', path: '/home/me/disk.qcow2' },
      vcpus: 16,
      memoryMib: 2048,
      diskBytes: 1_610_612_736,
      network: {
        kind: 'user',
        forwards: [
          { host: 0, guest: 22 },
          { host: 8080, guest: 80 },
        ],
        lan: null,
      },
      cloudInit: {
        hostname: 'web-1.example.org',
        userData: { kind: 'public-key', path: '/project/id_ed25519.pub' },
        networkConfig: '/project/network.yaml',
      },
      ssh: { declared: true, user: '_deploy', privateKey: '/project/id_ed25519', timeoutSeconds: 5400 },
      warm: 'off',
      provision: [
        {
          kind: 'shell',
          command: { kind: 'inline', text: 'set -e\n  echo "😀"' },
          environment: { A: '1', B: 'two', C: '' },
          run: 'always',
          timeoutSeconds: 90,
        },
        { kind: 'file', source: '/project/site.conf', destination: '~/site.conf', run: 'always', timeoutSeconds: 0.5 },
      ],
    });
    expect(raw).toStrictEqual({
      ...DEFAULTS,
      name: 'raw',
      image: { kind: 'file', path: '/project/images/web.qcow2' },
      network: { kind: 'none' },
      cloudInit: {
        hostname: 'raw',
        userData: { kind: 'raw', path: '/project/user-data.yaml' },
        networkConfig: null,
      },
    });
    expect(preset).toStrictEqual({
      ...DEFAULTS,
      name: 'preset',
      image: {
        kind: 'url',
        url: 'https://cloud.example.org/debian-12.qcow2',
        checksum: { algorithm: 'list', url: 'https://cloud.example.org/SHA256SUMS' },
      },
      firmware: 'uefi',
      network: {
        kind: 'user',
        forwards: [],
        lan: {
          name: 'back',
          address: '10.77.0.7',
          members: [{ vm: 'preset', address: '10.77.0.7', names: ['preset'] }],
        },
      },
      cloudInit: { hostname: 'preset', userData: { kind: 'generated-key' }, networkConfig: null },
      ssh: { declared: true, user: 'debian', privateKey: null, timeoutSeconds: null },
    });
  });

  it('names every file that must be there, with its place', () => {
    const { files } = resolveProject(parseVmFile(source).project, OPTIONS);
    const seen = files.map(({ path, role, vm, span }) => [vm, role, path, source.text.slice(span.start, span.end)]);
    expect(seen).toStrictEqual([
      ['all-of.it_1', 'image', '/home/me/disk.qcow2', '"~/images/../disk.qcow2"'],
      ['all-of.it_1', 'ssh-key', '/project/id_ed25519.pub', '"id_ed25519.pub"'],
      ['all-of.it_1', 'network-config', '/project/network.yaml', '"network.yaml"'],
      ['all-of.it_1', 'private-key', '/project/id_ed25519', '"./id_ed25519"'],
      ['all-of.it_1', 'source', '/project/site.conf', '"site.conf"'],
      ['raw', 'image', '/project/images/web.qcow2', '"file:///project/images/web%2eqcow2"'],
      ['raw', 'user-data', '/project/user-data.yaml', '"user-data.yaml"'],
    ]);
  });
});

describe('nodes and properties', () => {
  const source = fixture('spellings');

  it('are read in both spellings', () => {
    expect(definitionsOf(source)).toStrictEqual([
      {
        name: 'a',
        image: { kind: 'url', url: `oci://ghcr.io/me/disk@sha256:${'0'.repeat(64)}` },
        count: 4,
        firmware: 'uefi',
        network: { kind: 'tap', bridge: 'br1' },
        ssh: {},
        dependsOn: [],
        ready: {
          conditions: [
            { kind: 'port', port: 80 },
            { kind: 'http', path: '/health', port: 8080, status: 204 },
            { kind: 'log', pattern: 'ready', flags: 'i' },
            { kind: 'shell', command: 'test -e /tmp/x' },
            { kind: 'file', path: '/run/ready' },
            { kind: 'unit', unit: 'nginx.service' },
            { kind: 'cloud-init' },
          ],
          timeout: 120,
        },
        warm: 'disk',
        provision: [
          { kind: 'shell', command: { kind: 'script', path: 'setup.sh' }, environment: [], run: 'on-change' },
          { kind: 'file', source: 'site.conf', destination: '/tmp/x', run: 'once' },
        ],
      },
      {
        name: 'b',
        image: { kind: 'preset', preset: 'debian-12' },
        network: { kind: 'vnic', vnic: 'vnic0' },
        dependsOn: [],
        warm: 'memory',
        provision: [],
      },
      {
        name: 'e',
        image: { kind: 'path', path: 'disk.qcow2' },
        network: { kind: 'vnic', vnic: 'vnic1' },
        dependsOn: [],
        provision: [],
      },
    ]);
  });

  it('become specs, but for networks that this host has not', () => {
    const { specs, diagnostics } = resolveProject(parseVmFile(source).project, OPTIONS);
    expect(specs.map(({ name }) => name)).toStrictEqual(['a-1', 'a-2', 'a-3', 'a-4']);
    expect(specs[3]?.ready).toStrictEqual({
      conditions: [
        { kind: 'port', port: 80 },
        { kind: 'http', path: '/health', port: 8080, status: 204 },
        { kind: 'log', pattern: 'ready', flags: 'i' },
        { kind: 'shell', command: 'test -e /tmp/x' },
        { kind: 'file', path: '/run/ready' },
        { kind: 'unit', unit: 'nginx.service' },
        { kind: 'cloud-init' },
      ],
      timeoutSeconds: 120,
    });
    expect(new Set(diagnostics.map(({ code }) => code))).toStrictEqual(new Set(['unsupported']));
  });
});

describe('the places in a definition', () => {
  it('are the values themselves, and whole nodes for blocks', () => {
    const { text, ...rest } = sourceOf(
      'vm "web" count=1 { image "d"; network "user" { forward 1 2 }; depends-on "a" }',
    );
    const [vm] = parseVmFile({ text, ...rest }).project.vms;
    const at = (span: { readonly start: number; readonly end: number } | undefined): string =>
      span === undefined ? 'nowhere' : text.slice(span.start, span.end);
    expect(at(vm?.span)).toBe(text);
    expect(at(vm?.name.span)).toBe('"web"');
    expect(at(vm?.count?.span)).toBe('1');
    expect(at(vm?.image?.span)).toBe('"d"');
    expect(at(vm?.network?.span)).toBe('network "user"');
    expect(at(vm?.dependsOn[0]?.span)).toBe('"a"');
  });
});
