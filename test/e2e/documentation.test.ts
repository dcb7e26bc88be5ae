/** The examples of README and docs, run as they stand there, on a guest in which what they speak of is true. */
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { imagePreset } from '../../presets/images.js';
import { runCommand } from '../../src/util/exec.js';
import { putImage } from '../support/cached-image.js';
import { ROOT, examples } from '../support/documentation.js';
import { guestImage } from '../support/guests.js';
import { Projects, runner } from '../support/projects.js';

/** Everything that the examples expect of `web`: a unit, a folder to copy to, a web server, and tests to run. */
const SETUP = `
set -e
command() { printf '#!/bin/sh\\n%s\\n' "$2" | sudo tee /usr/bin/$1 >/dev/null; sudo chmod 755 /usr/bin/$1; }
sudo rm -f /usr/bin/systemctl
command systemctl 'echo active'
command run-tests 'echo all passed'
command curl 'wget -q -O - http://localhost/'
command createdb 'echo created'
command dropdb 'echo dropped'
sudo mkdir -p /srv/app
sudo chown "$(id -un)" /srv/app
echo '<h1>hello</h1>' > /srv/app/index.html
echo fine > /srv/app/health
sudo busybox httpd -p 80 -h /srv/app
`;

/** What an example prints as a program; or the project of a test runner that it is a part of. */
const EXPECTED: Readonly<Record<string, { readonly prints: RegExp } | { readonly runner: string }>> = {
  'README.md, example 1': { prints: /^active\n Response \{/ },
  'README.md, example 2': { runner: 'vitest' },
  'README.md, example 3': { runner: 'vitest' },
  'docs/api.md, example 1': { prints: /^active\n Response \{/ },
  'docs/api.md, example 2': { prints: /^$/ },
  'docs/api.md, example 3': { prints: /^6\.\d+/ },
  'docs/api.md, example 4': { prints: /tests/ },
  'docs/failures.md, example 1': { prints: /^flushed\n/m },
  'docs/groups.md, example 1': { prints: /^worker-1 running\nworker-2 running\nworker-3 running$/ },
  'docs/networks.md, example 1': { prints: /^10\.77\.0\.11 10\.77\.0\.12$/ },
  'docs/ready.md, example 1': { prints: /^port 22, file "~\/done", log \/it is up\/, log \/\^it is\/i$/ },
  'docs/testing.md, example 1': { runner: 'vitest with projects' },
  'docs/testing.md, example 2': { runner: 'vitest' },
  'docs/testing.md, example 3': { runner: 'vitest' },
  'docs/testing.md, example 4': { runner: 'jest' },
  'docs/testing.md, example 5': { runner: 'jest with jsdom' },
  'docs/testing.md, example 6': { runner: 'node:test' },
  'docs/testing.md, example 7': { runner: 'node:test' },
  'docs/warm-start.md, example 1': { prints: /^health\nindex\.html\n\nclean \d{4}-\S+Z \d+$/ },
};

const inDocs = examples().filter(({ name }) => !name.startsWith('docs/api-introduction.md'));

test('every example has its place here', () => {
  expect(inDocs.map(({ name }) => name).toSorted()).toEqual(Object.keys(EXPECTED).toSorted());
});

for (const { name, text } of inDocs) {
  const expected = EXPECTED[name];
  if (expected === undefined || 'runner' in expected) continue;
  test(`${name} does what it says`, async () => {
    const root = await mkdtemp(join(tmpdir(), 'vmctl-e2e-docs-'));
    try {
      expect(await outputOf(root, text)).toMatch(expected.prints);
    } finally {
      await rm(root, { recursive: true, force: true, maxRetries: 5 });
    }
  });
}

async function outputOf(root: string, text: string): Promise<string> {
  const project = join(root, 'project');
  await mkdir(join(project, 'node_modules'), { recursive: true });
  await symlink(ROOT, join(project, 'node_modules', 'vmctl'));
  await symlink(join(ROOT, 'node_modules', 'listr2'), join(project, 'node_modules', 'listr2'));
  await mkdir(join(project, 'dist'));
  await writeFile(join(project, 'dist', 'app.js'), '');
  await writeFile(join(project, 'setup.sh'), SETUP);
  await writeFile(join(project, 'VMFile.kdl'), vmFile(await guestImage('pocket'), ['web']));
  // Node 20 has no `await using` yet.
  const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
  await writeFile(join(project, 'example.mjs'), ts.transpileModule(text, { compilerOptions: options }).outputText);
  const variables = { XDG_DATA_HOME: join(root, 'data'), ...(await presetsOf(text, join(root, 'data'))) };
  const words = Object.entries(variables).map(([key, value]) => `${key}=${value}`);
  const program = [process.execPath, 'example.mjs'];
  const run = [process.execPath, join(ROOT, 'dist', 'cli.js'), 'run', '--', ...program];
  const { stdout } = await runCommand('env', [...words, ...(text.includes('attach') ? run : program)], {
    cwd: project,
    timeoutMs: 240_000,
  });
  return stdout;
}

function vmFile(image: string, names: readonly string[]): string {
  const vm = (name: string) =>
    `vm "${name}" {\n  image "${image}"\n  memory 256\n  network "user" { forward 0 80 }\n  cloud-init\n` +
    '  ssh\n  provision "shell" { script "setup.sh" }\n}\n';
  return names.map(vm).join('');
}

/** Public images are not to be had here: one stands in for them in the cache, and nothing boots. */
async function presetsOf(text: string, data: string): Promise<Readonly<Record<string, string>>> {
  const name = /imagePreset: '([^']+)'/.exec(text)?.[1];
  const preset = name === undefined ? undefined : imagePreset(name, process.arch);
  if (preset === undefined) return {};
  const path = await putImage(join(data, 'vmctl', 'images'), preset.url, { checksumUrl: preset.checksum.url });
  expect((await readFile(path)).length).toBeGreaterThan(0);
  return { VMCTL_BACKEND: 'noop', VMCTL_IMAGES_PULL: 'never' };
}

describe('the examples of test runners', () => {
  let projects: Projects;

  beforeAll(async () => {
    const packages = ['vitest@4', 'jest@30', 'jest-environment-jsdom@30'];
    projects = await Projects.install({ packages, guest: await guestImage('pocket') });
  });

  afterAll(async () => {
    await projects[Symbol.asyncDispose]();
  });

  const example = (name: string): string => inDocs.find((candidate) => candidate.name === name)?.text ?? '';

  /** Fails unless all tests pass; gives what is left of their VMs. */
  async function leftBy(
    name: string,
    words: (folder: string) => readonly string[],
    files: Readonly<Record<string, string>>,
  ): Promise<readonly string[]> {
    const world = { 'setup.sh': SETUP, 'package.json': '{ "private": true }' };
    const vms = { 'VMFile.kdl': vmFile(await guestImage('pocket'), ['web', 'db']) };
    const folder = await projects.project(name, { ...world, ...vms, ...files });
    const session = await projects.session();
    await session.run(folder, words(folder));
    return session.leftovers();
  }

  const vitest = (folder: string) => [...runner(folder, 'vitest'), 'run', '--testTimeout=120000'];
  const jest = (folder: string) => [...runner(folder, 'jest'), '--testTimeout=120000'];

  test('of Vitest, with their configuration, pass', async () => {
    const left = await leftBy('with-vitest', vitest, {
      'vitest.config.ts': example('README.md, example 2'),
      'test/web.test.ts': example('README.md, example 3'),
      'test/page.test.ts': example('docs/testing.md, example 2'),
      'test/orders.test.ts': `${example('docs/testing.md, example 3')}
        import { test } from 'vitest';
        test('there is a database', async () => void (await vms.get('db').exec('true')));`,
    });
    expect(left).toEqual([]);
  });

  test('of Vitest’s projects pass', async () => {
    const left = await leftBy('with-vitest-projects', vitest, {
      'vitest.config.ts': example('docs/testing.md, example 1'),
      'test/VMFile.kdl': vmFile(await guestImage('pocket'), ['web']),
      'test/setup.sh': SETUP,
      'test/unit/sum.test.ts': "import { expect, test } from 'vitest';\ntest('sum', () => expect(1 + 1).toBe(2));\n",
      'test/vms/web.test.ts': example('README.md, example 3'),
    });
    expect(left).toEqual([]);
  });

  test('of Jest, with jsdom too, pass', async () => {
    const left = await leftBy('with-jest', jest, {
      'package.json': '{ "private": true, "jest": { "preset": "vmctl/jest" } }',
      'test/web.test.js': example('docs/testing.md, example 4'),
      'environment.mjs': example('docs/testing.md, example 5'),
      'test/page.test.js': `/** @jest-environment ./environment.mjs */\n${example('docs/testing.md, example 4')}
        test('there is a document', () => expect(document.body).toBeDefined());`,
    });
    expect(left).toEqual([]);
  });

  test('of Node’s own runner pass', async () => {
    const left = await leftBy('with-node-test', () => [process.execPath, '--test', 'test/'], {
      'package.json': '{ "private": true, "type": "module" }',
      'global.mjs': example('docs/testing.md, example 7'),
      'test/web.test.js': example('docs/testing.md, example 6'),
    });
    expect(left).toEqual([]);
  });
});
