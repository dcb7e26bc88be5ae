/** The examples of README and docs, run as they stand there, on a guest in which what they speak of is true. */
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { imagePreset } from '../../presets/images.js';
import { runCommand } from '../../src/util/exec.js';
import { putImage } from '../support/cached-image.js';
import { ROOT, examples } from '../support/documentation.js';
import { guestImage } from '../support/guests.js';

/** Everything that the examples expect of `web`: a unit, a folder to copy to, a web server, and tests to run. */
const SETUP = `
set -e
command() { printf '#!/bin/sh\\n%s\\n' "$2" | sudo tee /usr/bin/$1 >/dev/null; sudo chmod 755 /usr/bin/$1; }
sudo rm -f /usr/bin/systemctl
command systemctl 'echo active'
command run-tests 'echo all passed'
sudo mkdir -p /srv/app
sudo chown "$(id -un)" /srv/app
echo hello > /srv/app/index.html
echo fine > /srv/app/health
sudo busybox httpd -p 80 -h /srv/app
`;

/** What an example prints; for one that is not run here, where else it is. */
const EXPECTED: Readonly<Record<string, { readonly prints: RegExp } | { readonly elsewhere: string }>> = {
  'README.md, example 1': { prints: /^active\n Response \{/ },
  'docs/api.md, example 1': { prints: /^active\n Response \{/ },
  'docs/api.md, example 2': { prints: /^$/ },
  'docs/api.md, example 3': { prints: /^6\.\d+/ },
  'docs/api.md, example 4': { prints: /tests/ },
};

const inDocs = examples().filter(({ name }) => !name.startsWith('docs/api-introduction.md'));

test('every example has its place here', () => {
  expect(inDocs.map(({ name }) => name).toSorted()).toEqual(Object.keys(EXPECTED).toSorted());
});

for (const { name, text } of inDocs) {
  const expected = EXPECTED[name];
  if (expected === undefined || 'elsewhere' in expected) continue;
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
  const image = await guestImage('pocket');
  await writeFile(
    join(project, 'VMFile.kdl'),
    `vm "web" {\n  image "${image}"\n  memory 256\n  network "user" { forward 0 80 }\n  cloud-init\n` +
      '  ssh\n  provision "shell" { script "setup.sh" }\n}\n',
  );
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

/** Public images are not to be had here: one stands in for them in the cache, and nothing boots. */
async function presetsOf(text: string, data: string): Promise<Readonly<Record<string, string>>> {
  const name = /imagePreset: '([^']+)'/.exec(text)?.[1];
  const preset = name === undefined ? undefined : imagePreset(name, process.arch);
  if (preset === undefined) return {};
  const path = await putImage(join(data, 'vmctl', 'images'), preset.url, { checksumUrl: preset.checksum.url });
  expect((await readFile(path)).length).toBeGreaterThan(0);
  return { VMCTL_BACKEND: 'noop', VMCTL_IMAGES_PULL: 'never' };
}
