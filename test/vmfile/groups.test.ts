import { describe, expect, it } from 'vitest';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { resolveProject } from '../../src/vmfile/resolve.js';
import { OPTIONS, sourceOf } from './report.js';

function read(text: string) {
  const parsed = parseVmFile(sourceOf(text));
  const resolved = resolveProject(parsed.project, OPTIONS);
  return { ...resolved, diagnostics: [...parsed.diagnostics, ...resolved.diagnostics] };
}

describe('a VM with a count', () => {
  it('becomes so many VMs, each with a name, a place and a hostname of its own', () => {
    const { specs, diagnostics } = read('vm "worker" count=3 { image "disk.qcow2"; cloud-init; ssh }');
    expect(diagnostics).toStrictEqual([]);
    expect(specs.map(({ name, group, cloudInit }) => [name, group, cloudInit?.hostname])).toStrictEqual([
      ['worker-1', { name: 'worker', index: 1 }, 'worker-1'],
      ['worker-2', { name: 'worker', index: 2 }, 'worker-2'],
      ['worker-3', { name: 'worker', index: 3 }, 'worker-3'],
    ]);
    const common = specs.map((spec) => ({ ...spec, name: '', group: null, cloudInit: null }));
    expect(common).toStrictEqual(Array.from(common, () => common[0]));
  });

  it('puts its number into the first label of a hostname that is declared', () => {
    const { specs } = read('vm "w" count=2 { image "disk.qcow2"; cloud-init { hostname "node.example.org" } }');
    expect(specs.map(({ cloudInit }) => cloudInit?.hostname)).toStrictEqual([
      'node-1.example.org',
      'node-2.example.org',
    ]);
  });

  it('of 1 is a VM as without it', () => {
    const one = read('vm "a" count=1 { image "disk.qcow2"; cloud-init }');
    expect(one.specs).toStrictEqual(read('vm "a" { image "disk.qcow2"; cloud-init }').specs);
    expect(one.specs).toMatchObject([{ name: 'a', group: null }]);
  });

  it('needs each of its files once', () => {
    const { files } = read(
      'vm "w" count=9 { image "disk.qcow2"; ssh; provision "shell" run="each" { script "setup.sh" } }',
    );
    expect(files.map(({ path }) => path)).toStrictEqual(['/project/disk.qcow2', '/project/setup.sh']);
  });
});

describe('depends-on', () => {
  const workers = 'vm "worker" count=2 { image "disk.qcow2" }';

  it('with the name of a group waits for all of it', () => {
    const { specs, diagnostics } = read(`vm "web" { image "disk.qcow2"; depends-on "worker" "worker-2" }\n${workers}`);
    expect(diagnostics).toStrictEqual([]);
    expect(specs[0]?.dependsOn).toStrictEqual(['worker-1', 'worker-2']);
  });

  it('can name one VM of a group, and a group can wait for a VM', () => {
    const { specs, diagnostics } = read(
      `vm "web" { image "disk.qcow2"; depends-on "worker-2" }\nvm "worker" count=2 { image "disk.qcow2"; depends-on "db" }\nvm "db" { image "disk.qcow2" }`,
    );
    expect(diagnostics).toStrictEqual([]);
    expect(specs.map(({ name, dependsOn }) => [name, dependsOn])).toStrictEqual([
      ['web', ['worker-2']],
      ['worker-1', ['db']],
      ['worker-2', ['db']],
      ['db', []],
    ]);
  });

  it.each(['worker', 'worker-1'])('finds a circle through "%s"', (name) => {
    const { diagnostics } = read(
      `vm "web" { image "disk.qcow2"; depends-on "${name}" }\nvm "worker" count=2 { image "disk.qcow2"; depends-on "web" }`,
    );
    expect(diagnostics.map(({ code, message }) => [code, message])).toStrictEqual([
      ['cycle', 'these VMs wait for each other: web → worker → web'],
    ]);
  });
});
