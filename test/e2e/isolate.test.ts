/** `isolate` of the presets, from the packed package, on a real guest: no test, or no file, sees what another one did. */
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

const testOf = (name: string, begin: string): string => `test('${name}', ${begin}${BODY}\n  }, 120_000);\n`;

interface Level {
  readonly isolate: 'test' | 'file';
  /** The tests of each file. */
  readonly files: readonly (readonly string[])[];
}

const LEVELS: readonly Level[] = [
  { isolate: 'test', files: [['first', 'second', 'third']] },
  { isolate: 'file', files: [['first'], ['second'], ['third']] },
];

/** The test files of a level, each with these lines before its tests. */
function testFiles({ files }: Level, { suffix, head, begin }: { suffix: string; head: string; begin: string }) {
  const text = (names: readonly string[]) => head + names.map((name) => testOf(name, begin)).join('');
  return Object.fromEntries(files.map((names, i) => [`${i}.test.${suffix}`, text(names)]));
}

async function vmfile(): Promise<string> {
  const image = JSON.stringify(await guestImage('pocket'));
  const inline = 'setsid sh -c \\"while :; do sleep 1000; done\\" >/dev/null 2>&1 & echo $! > pid';
  return `vm "web" { image ${image}; memory 192; cloud-init; ssh; provision "shell" { inline "${inline}" } }`;
}

test.for(LEVELS)('in Vitest, each $isolate', async (level) => {
  const folder = await projects.project(`vitest/isolated-${level.isolate}`, {
    'VMFile.kdl': await vmfile(),
    'vitest.config.mjs': `import { vmctl } from 'vmctl/vitest';
export default { plugins: [vmctl({ isolate: '${level.isolate}' })], test: { include: ['*.test.mjs'] } };`,
    ...testFiles(level, {
      suffix: 'mjs',
      head: `import { expect } from 'vitest';\nimport { test } from 'vmctl/vitest/test';\n`,
      begin: "async ({ vms }) => {\n    const web = vms.get('web');",
    }),
  });
  const session = await projects.session();
  const output = await session.run(folder, [...runner(folder, 'vitest'), 'run']);
  expect(output).toContain('3 passed');
  expect(await session.leftovers()).toEqual([]);
});

test.for(LEVELS)('in Jest, each $isolate', async (level) => {
  const folder = await projects.project(`jest/isolated-${level.isolate}`, {
    'VMFile.kdl': await vmfile(),
    'package.json': JSON.stringify({
      jest: {
        preset: 'vmctl/jest',
        testMatch: ['**/*.test.cjs'],
        testEnvironmentOptions: { vmctl: { isolate: level.isolate } },
      },
    }),
    ...testFiles(level, {
      suffix: 'cjs',
      head: `const { vms } = require('vmctl/jest');\nlet web;\nbeforeAll(async () => { ({ web } = await vms()); }, 300_000);\n`,
      begin: 'async () => {',
    }),
  });
  const session = await projects.session();
  const output = await session.run(folder, runner(folder, 'jest'));
  expect(output).toContain('3 passed');
  expect(await session.leftovers()).toEqual([]);
});
