/** The examples on real guests, installed from the packed package, as a user runs them. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { Projects, runner } from '../support/projects.js';

const EXAMPLES = ['npm-scripts', 'vitest', 'jest', 'node-test', 'cluster'];
let projects: Projects;

beforeAll(async () => {
  projects = await Projects.install({ examples: EXAMPLES, guest: await guestImage('pocket') });
});

afterAll(async () => {
  await projects[Symbol.asyncDispose]();
});

test.each(EXAMPLES)('npm test of %s passes, ends by itself, and leaves nothing', async (name) => {
  const session = await projects.session();
  await session.run(await projects.project(name), ['npm', 'test']);
  expect(await session.leftovers()).toEqual([]);
});

test('scripts before and after another one bring a VM up and down', async () => {
  const session = await projects.session();
  const output = await session.run(await projects.project('npm-scripts'), ['npm', 'run', 'check']);
  expect(output).toContain('hello from greeter');
  expect(await session.leftovers()).toEqual([]);
});

test('a test that fails leaves the logs and the screen of its VMs, and says where', async () => {
  const folder = await projects.project('vitest', {
    'failing/wrong.test.ts': `import { expect } from 'vitest';
import { test } from 'vmctl/vitest/test';
test('something is wrong', async ({ vms }) => {
  expect((await vms.get('web').exec('hostname')).stdout).toBe('another');
});
`,
  });
  const session = await projects.session();
  const output = await session.run(folder, [...runner(folder, 'vitest'), 'run', 'failing'], { code: 1 });
  const [, path = ''] = /"something is wrong" failed; its VMs are in (\S+)/.exec(output) ?? [];
  const artifacts = join(folder, path, 'web');
  expect((await readdir(artifacts)).toSorted()).toEqual([
    'console.log',
    'provision.log',
    'screenshot.png',
    'status.json',
  ]);
  expect(await readFile(join(artifacts, 'console.log'), 'utf8')).toContain('Linux');
  expect(await readFile(join(artifacts, 'provision.log'), 'utf8')).toContain('busybox httpd');
  const png = await readFile(join(artifacts, 'screenshot.png'));
  expect(png.subarray(1, 4).toString('latin1')).toBe('PNG');
  expect(await session.leftovers()).toEqual([]);
});

test('within 3 s of Ctrl-C, SIGTERM and SIGKILL during the tests there is no QEMU, no lock and no directory any more', async () => {
  const folder = await projects.project('vitest', {
    'hanging/hang.test.ts': `import { writeFileSync } from 'node:fs';
import { test } from 'vmctl/vitest/test';
test('hangs', async ({ vms }) => {
  await vms.get('web').exec('true');
  writeFileSync(process.env['MARKER'] ?? '', '');
  await new Promise((resolve) => setTimeout(resolve, 600_000));
}, 900_000);
`,
  });
  const signals = ['SIGINT', 'SIGTERM', 'SIGKILL'] as const;
  await Promise.all(
    signals.map(async (signal) => {
      const session = await projects.session();
      const marker = join(session.root, 'in-test');
      const started = session.start(folder, [...runner(folder, 'vitest'), 'run', 'hanging'], { MARKER: marker });
      await started.writes(marker);
      expect((await session.leftovers()).filter((line) => line.includes('qemu-system'))).toHaveLength(1);
      started.send(signal);
      expect({ signal, left: await session.leftoversAfter(3000) }).toEqual({ signal, left: [] });
    }),
  );
});

test('within 3 s of SIGKILL while a guest boots there is no QEMU, no lock and no directory any more', async () => {
  const session = await projects.session();
  const folder = await projects.project('jest');
  const started = session.start(folder, runner(folder, 'jest'));
  const booting = async () => (await session.leftovers()).some((line) => line.includes('qemu-system'));
  await expect.poll(booting, { timeout: 60_000, interval: 20 }).toBe(true);
  started.send('SIGKILL');
  expect(await session.leftoversAfter(3000)).toEqual([]);
});
