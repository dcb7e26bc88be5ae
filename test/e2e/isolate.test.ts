/** `isolate: 'test'` of the presets, from the packed package, on a real guest: no test sees what another one did. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { Projects, runner } from '../support/projects.js';

let projects: Projects;

beforeAll(async () => {
  projects = await Projects.install({ examples: ['vitest', 'jest'] });
});

afterAll(async () => {
  await projects[Symbol.asyncDispose]();
});

/** Finds nothing of another test, and leaves a file and no process of those that were provisioned. */
const BODY = `
    const { stdout } = await web.exec('ls dirt 2>/dev/null; kill -0 $(cat pid) && echo alive', { check: false });
    expect(stdout).toBe('alive\\n');
    await web.exec('echo dirty > dirt; kill $(cat pid)');`;

const tests = (begin: string): string =>
  ['first', 'second', 'third'].map((name) => `test('${name}', ${begin}${BODY}\n  }, 120_000);\n`).join('');

async function vmfile(): Promise<string> {
  const image = JSON.stringify(await guestImage('pocket'));
  const inline = 'setsid sh -c \\"while :; do sleep 1000; done\\" >/dev/null 2>&1 & echo $! > pid';
  return `vm "web" { image ${image}; memory 192; cloud-init; ssh; provision "shell" { inline "${inline}" } }`;
}

test('in Vitest', async () => {
  const folder = await projects.project('vitest/isolated', {
    'VMFile.kdl': await vmfile(),
    'vitest.config.mjs': `import { vmctl } from 'vmctl/vitest';
export default { plugins: [vmctl({ isolate: 'test' })], test: { include: ['*.test.mjs'] } };`,
    'a.test.mjs': `import { expect } from 'vitest';\nimport { test } from 'vmctl/vitest/test';\n${tests(
      "async ({ vms }) => {\n    const web = vms.get('web');",
    )}`,
  });
  const session = await projects.session();
  const output = await session.run(folder, [...runner(folder, 'vitest'), 'run']);
  expect(output).toContain('3 passed');
  expect(await session.leftovers()).toEqual([]);
});

test('in Jest', async () => {
  const folder = await projects.project('jest/isolated', {
    'VMFile.kdl': await vmfile(),
    'package.json': JSON.stringify({
      jest: {
        preset: 'vmctl/jest',
        testMatch: ['**/*.test.cjs'],
        testEnvironmentOptions: { vmctl: { isolate: 'test' } },
      },
    }),
    'a.test.cjs': `const { vms } = require('vmctl/jest');\nlet web;\nbeforeAll(async () => { ({ web } = await vms()); }, 300_000);\n${tests(
      'async () => {',
    )}`,
  });
  const session = await projects.session();
  const output = await session.run(folder, runner(folder, 'jest'));
  expect(output).toContain('3 passed');
  expect(await session.leftovers()).toEqual([]);
});
