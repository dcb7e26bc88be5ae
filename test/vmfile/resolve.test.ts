import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ImageSource } from '../../src/model/spec.js';
import { findCycles } from '../../src/vmfile/cycles.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { resolveProject } from '../../src/vmfile/resolve.js';
import { OPTIONS, sourceOf } from './report.js';

function imageOf(node: string): ImageSource | undefined {
  const { specs } = resolveProject(parseVmFile(sourceOf(`vm "a" { ${node} }`)).project, OPTIONS);
  return specs[0]?.image;
}

describe('a path', () => {
  it.each([
    ['disk.qcow2', '/project/disk.qcow2'],
    ['./a/../disk.qcow2', '/project/disk.qcow2'],
    ['../disk.qcow2', '/disk.qcow2'],
    ['/disk.qcow2', '/disk.qcow2'],
    ['~/disk.qcow2', '/home/me/disk.qcow2'],
    ['~', '/home/me'],
    ['~disk', '/project/~disk'],
    ['a/~/disk', '/project/a/~/disk'],
  ])('%s is %s, from the folder of the VMFile', (written, path) => {
    expect(imageOf(`image "${written}"`)).toStrictEqual({ kind: 'file', path });
  });
});

describe('an image', () => {
  it.each([
    ['file:///a/b%20c%25.qcow2', '/a/b c%.qcow2'],
    ['file://localhost/a', '/a'],
    ['FILE:/a', '/a'],
    ['file:///a?b#c', '/a'],
  ])('%s is the file %s', (url, path) => {
    expect(imageOf(`image-url "${url}"`)).toStrictEqual({ kind: 'file', path });
  });

  it('by a preset brings its user along, which the VMFile can overrule', () => {
    const users = ['', 'ssh', 'ssh { user "root" }'].map((ssh) => {
      const text = `vm "a" { image-preset "debian-12"; ${ssh}\n }`;
      return resolveProject(parseVmFile(sourceOf(text)).project, OPTIONS).specs[0]?.ssh.user;
    });
    expect(users).toStrictEqual(['debian', 'debian', 'root']);
  });

  it('by a preset brings its firmware and its list of checksums along, which the VMFile can overrule', () => {
    const digest = '0'.repeat(64);
    const specOf = (more: string) =>
      resolveProject(parseVmFile(sourceOf(`vm "a" { image-preset "debian-12"; ${more}\n }`)).project, OPTIONS).specs[0];
    const list = { algorithm: 'list', url: 'https://cloud.example.org/SHA256SUMS' };
    expect(specOf('')).toMatchObject({ firmware: 'uefi', image: { checksum: list } });
    expect(specOf('firmware "bios"')).toMatchObject({ firmware: 'bios', image: { checksum: list } });
    expect(specOf(`checksum "sha256:${digest}"`)).toMatchObject({
      firmware: 'uefi',
      image: { url: 'https://cloud.example.org/debian-12.qcow2', checksum: { algorithm: 'sha256', digest } },
    });
    expect(specOf('checksum "https://mirror.example.org/SUMS"')).toMatchObject({
      image: { checksum: { algorithm: 'list', url: 'https://mirror.example.org/SUMS' } },
    });
  });

  it('of a list of checksums in a file needs the file', () => {
    const text = 'vm "a" { image-url "https://example.org/x"; checksum "file:///project/SHA256%53UMS" }';
    const { specs, files } = resolveProject(parseVmFile(sourceOf(text)).project, OPTIONS);
    expect(specs[0]?.image).toMatchObject({ checksum: { algorithm: 'list', url: 'file:///project/SHA256%53UMS' } });
    expect(files).toMatchObject([{ role: 'checksum-list', path: '/project/SHA256SUMS', vm: 'a' }]);
  });

  it('by a preset that has none for this host is an error', () => {
    const { diagnostics } = resolveProject(
      parseVmFile(sourceOf('vm "a" { image-preset "debian-13" }')).project,
      OPTIONS,
    );
    expect(diagnostics.map(({ message }) => message)).toStrictEqual([
      'the image preset "debian-13" has no image for the architecture of this host',
    ]);
  });
});

describe('a VM with a mistake', () => {
  it('makes no spec, and the others do', () => {
    const text = 'vm "a" { image-preset "nope" }\nvm "b" { image "x" }\nvm "c"\n';
    const { specs } = resolveProject(parseVmFile(sourceOf(text)).project, OPTIONS);
    expect(specs.map((spec) => spec.name)).toStrictEqual(['b']);
  });
});

describe('a specification', () => {
  it('is plain JSON', () => {
    const text = 'vm "a" { image "x"; ssh; provision "shell" { inline "x"; env __proto__="y" } }';
    const { specs } = resolveProject(parseVmFile(sourceOf(text)).project, OPTIONS);
    expect(JSON.parse(JSON.stringify(specs))).toStrictEqual(specs);
    expect(JSON.stringify(specs)).toContain('"environment":{"__proto__":"y"}');
  });
});

describe('circles of dependencies', () => {
  /** A project in which VM number i depends on the numbers in its list. */
  function project(graph: readonly (readonly number[])[]): string {
    const vm = (targets: readonly number[], index: number): string => {
      const names = [...new Set(targets)].map((target) => ` "v${target % graph.length}"`);
      const unique = [...new Set(names)].join('');
      return `vm "v${index}" { image "x"; ${unique === '' ? '' : `depends-on${unique}`}\n}\n`;
    };
    return graph.map(vm).join('');
  }

  it('are found exactly where no order of starting exists', () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat({ max: 7 }), { maxLength: 3 }), { minLength: 1, maxLength: 8 }), (graph) => {
        const { vms } = parseVmFile(sourceOf(project(graph))).project;
        const cycles = findCycles(vms);
        const waiting = new Map(vms.map((vm) => [vm.name.value, vm.dependsOn.map(({ value }) => value)]));
        for (let size = -1; size !== waiting.size; ) {
          size = waiting.size;
          for (const [name, needs] of waiting) if (needs.every((need) => !waiting.has(need))) waiting.delete(name);
        }
        expect(cycles.length > 0).toBe(waiting.size > 0);
        for (const cycle of cycles) {
          expect(cycle.at(-1)?.to).toBe(cycle[0]?.from);
          for (const [index, step] of cycle.entries()) expect(step.from).toBe(cycle.at(index - 1)?.to);
        }
      }),
    );
  });

  it('are searched for in a chain of 10,000 without exhausting the stack', () => {
    const vms = Array.from({ length: 10_000 }, (_, index) => ({
      name: { value: `v${index}`, span: { start: 0, end: 0 } },
      span: { start: 0, end: 0 },
      dependsOn: index === 0 ? [] : [{ value: `v${index - 1}`, span: { start: index, end: index } }],
      provision: [],
    }));
    expect(findCycles(vms.toReversed())).toStrictEqual([]);
  });
});
