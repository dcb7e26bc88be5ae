/** Test runners with the presets, from the packed package, on the Noop backend: what takes no guest to be seen. */
import { appendFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type HttpServer, startHttpServer } from '../support/http-server.js';
import { Projects, type Session, runner } from '../support/projects.js';

let projects: Projects;
const servers: HttpServer[] = [];
const VARIABLES = { VMCTL_BACKEND: 'noop' };

beforeAll(async () => {
  projects = await Projects.install({ examples: ['vitest', 'jest', 'node-test'] });
});

afterAll(async () => {
  await projects[Symbol.asyncDispose]();
  await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
});

const WAIT = `await new Promise((resolve) => setTimeout(resolve, 600_000));`;
const MARK = `(await import('node:fs')).writeFileSync(process.env.MARKER, '');`;

/** Folders beside the examples, whose packages they use, with a test that passes and one that hangs where it is told. */
const PROJECTS = {
  vitest: {
    folder: 'vitest/hanging',
    words: (folder: string) => [...runner(folder, 'vitest'), 'run'],
    files: {
      'vitest.config.mjs': `export default {
  test: { globalSetup: ['vmctl/vitest/setup', './end.mjs'], include: ['*.test.mjs'], testTimeout: 900_000, teardownTimeout: 900_000 },
};`,
      // Teardowns run in the opposite order: this one before the VMs are ended.
      'end.mjs': `export async function teardown() { if (process.env.HANG === 'teardown') { ${MARK} ${WAIT} } }`,
      'a.test.mjs': `import { test } from 'vmctl/vitest/test';
test('waits', async ({ vms }) => { await vms.get('a').status(); if (process.env.HANG === 'tests') { ${MARK} ${WAIT} } });`,
    },
  },
  'vitest, with VMs for each file': {
    folder: 'vitest/hanging-file',
    words: (folder: string) => [...runner(folder, 'vitest'), 'run'],
    files: {
      'vitest.config.mjs': `import { vmctl } from 'vmctl/vitest';
export default {
  plugins: [vmctl({ isolate: 'file' })],
  test: { include: ['*.test.mjs'], testTimeout: 900_000, teardownTimeout: 900_000 },
};`,
      'a.test.mjs': `import { afterAll } from 'vitest';
import { test } from 'vmctl/vitest/test';
test('waits', async ({ vms }) => { await vms.get('a').status(); if (process.env.HANG === 'tests') { ${MARK} ${WAIT} } });
afterAll(async () => { if (process.env.HANG === 'teardown') { ${MARK} ${WAIT} } }, 900_000);`,
    },
  },
  jest: {
    folder: 'jest/hanging',
    words: (folder: string) => runner(folder, 'jest'),
    files: {
      'package.json': JSON.stringify({
        jest: { preset: 'vmctl/jest', globalTeardown: './end.mjs', testMatch: ['**/*.test.cjs'], testTimeout: 900_000 },
      }),
      'end.mjs': `import teardown from '../node_modules/vmctl/dist/jest/teardown.js';
export default async (config) => { if (process.env.HANG === 'teardown') { ${MARK} ${WAIT} } await teardown(config); };`,
      'a.test.cjs': `const { vms } = require('vmctl/jest');
test('waits', async () => { await (await vms()).a.status(); if (process.env.HANG === 'tests') {
  require('node:fs').writeFileSync(process.env.MARKER, ''); ${WAIT} } });`,
    },
  },
  'node-test': {
    folder: 'node-test/hanging',
    words: () => [process.execPath, '--test', 'a.test.mjs'],
    files: {
      'a.test.mjs': `import { after, describe, test } from 'node:test';
import { vms } from 'vmctl/node-test';
const fleet = await vms();
describe('all', () => {
  after(async () => { if (process.env.HANG === 'teardown') { ${MARK} ${WAIT} } });
  test('waits', async () => { await fleet.get('a').status(); if (process.env.HANG === 'tests') { ${MARK} ${WAIT} } });
});`,
    },
  },
} as const;

type Runner = keyof typeof PROJECTS;
type Phase = 'set-up' | 'tests' | 'teardown';

async function folderOf(name: Runner): Promise<string> {
  const { folder, files } = PROJECTS[name];
  return projects.project(folder, {
    ...files,
    'disk.raw': Buffer.alloc(1024 * 1024),
    'VMFile.kdl': 'vm "a" { image "disk.raw" }\nvm "b" { image "disk.raw" }\n',
  });
}

/** Starts a run that hangs in this phase, and settles when it does. */
async function startHanging(session: Session, name: Runner, phase: Phase) {
  const folder = await folderOf(name);
  const marker = join(session.root, 'marker');
  const variables = { ...VARIABLES, MARKER: marker, HANG: phase };
  if (phase !== 'set-up') {
    const started = session.start(folder, PROJECTS[name].words(folder), variables);
    await started.writes(marker);
    return started;
  }
  // A download that does not end.
  const server = await startHttpServer();
  servers.push(server);
  server.serve('/disk.raw', { body: Buffer.alloc(1024 * 1024), stallAfter: 1024 });
  const file = join(session.root, 'slow.kdl');
  await writeFile(file, `vm "a" { image-url "${server.url('/disk.raw')}" }\n`);
  const started = session.start(folder, PROJECTS[name].words(folder), { ...variables, VMCTL_FILE: file });
  await server.requested(1);
  return started;
}

const RUNNERS: readonly Runner[] = ['vitest', 'vitest, with VMs for each file', 'jest', 'node-test'];
const PHASES: readonly Phase[] = ['set-up', 'tests', 'teardown'];
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGKILL'] as const;

describe.each(RUNNERS)('%s', (name) => {
  test('passes, ends by itself and leaves nothing, also when two runs of one suite go on at the same time', async () => {
    const session = await projects.session();
    const folder = await folderOf(name);
    const words = PROJECTS[name].words(folder);
    await Promise.all([1, 2].map(() => session.run(folder, words, { variables: VARIABLES })));
    expect(await session.leftovers()).toEqual([]);
  });

  test('leaves VMs that are to be kept, and says how to look at them', async () => {
    const session = await projects.session();
    const folder = await folderOf(name);
    const variables = { ...VARIABLES, VMCTL_KEEP: '1' };
    const output = await session.run(folder, PROJECTS[name].words(folder), { variables });
    const [id = ''] = await readdir(session.paths.runs);
    expect(output).toContain(`VMCTL_STATE=${session.paths.run(id)} vmctl list`);
    expect((await readdir(join(session.paths.run(id), 'vms'))).toSorted()).toEqual(['a', 'b']);
  });

  test.each(PHASES)('has nothing left within 3 s when it is interrupted, ended or killed during %s', async (phase) => {
    await Promise.all(
      SIGNALS.map(async (signal) => {
        const session = await projects.session();
        const started = await startHanging(session, name, phase);
        expect(await readdir(session.paths.runs)).toHaveLength(1);
        started.send(signal);
        const left = await session.leftoversAfter(3000);
        expect({ signal, left }).toEqual({ signal, left: [] });
      }),
    );
  });
});

test.each([
  { name: 'vitest', words: ['--watch'], summary: /Tests +1 passed/g },
  { name: 'jest', words: ['--watchAll'], summary: /Tests: +1 passed/g },
] as const)('in watch mode of $name the VMs stay from one run to the next, until it ends', async (watch) => {
  const session = await projects.session();
  const folder = await folderOf(watch.name);
  const [, program = ''] = runner(folder, watch.name);
  const started = session.start(folder, [process.execPath, program, ...watch.words], VARIABLES);
  const runs = () => [...stripVTControlCharacters(started.output()).matchAll(watch.summary)].length;
  await expect.poll(runs, { timeout: 120_000 }).toBe(1);
  const [id] = await readdir(session.paths.runs);
  const name = Object.keys(PROJECTS[watch.name].files).find((file) => file.includes('.test.')) ?? '';
  await appendFile(join(folder, name), '\n// Changed.\n');
  await expect.poll(runs, { timeout: 120_000 }).toBe(2);
  expect(await readdir(session.paths.runs)).toEqual([id]);
  expect(started.output().split('VMs up after')).toHaveLength(2);
  started.send('SIGINT');
  expect(await session.leftoversAfter(3000)).toEqual([]);
});
