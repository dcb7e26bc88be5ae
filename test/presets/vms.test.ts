/** The VMs of a test run, and what a failing test leaves of them, on the Noop backend. */
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { saveArtifacts } from '../../presets/testing/artifacts.js';
import { startVms } from '../../presets/testing/vms.js';
import { VM_FILES } from '../../src/paths.js';

let root: string;
let project: string;
const lines: string[] = [];
const print = (line: string): void => void lines.push(line);

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'vmctl-presets-'));
  project = join(root, 'project');
  await mkdir(project);
  await writeFile(join(project, 'disk.raw'), Buffer.alloc(1024 * 1024));
  await writeFile(join(project, 'VMFile.kdl'), 'vm "web" { image "disk.raw" }\nvm "db" { image "disk.raw" }\n');
  vi.stubEnv('XDG_DATA_HOME', join(root, 'data'));
  vi.stubEnv('VMCTL_CONNECTION', '');
  lines.length = 0;
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true, force: true });
});

const start = () => startVms({ cwd: project, backend: 'noop' }, { print });
const runs = () => readdir(join(root, 'data', 'vmctl', 'runs'));

test('VMs come up with the first and the last line saying so, and end with nothing left', async () => {
  const vms = await start();
  expect(lines[0]).toBe('bringing up VMs for the tests');
  expect(lines.at(-1)).toMatch(/^2 VMs up after .*: web, db$/);
  expect((await vms.fleet.get('web').status()).state).toBe('running');
  await vms.end();
  expect(await runs()).toEqual([]);
});

test('the connection is for its owner alone, and whoever is given it uses the same VMs and does not end them', async () => {
  const vms = await start();
  const path = await vms.writeConnection();
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  vi.stubEnv('VMCTL_CONNECTION', path);
  const again = await start();
  expect(again.fleet.stateDirectory).toBe(vms.fleet.stateDirectory);
  expect(await again.writeConnection()).toBe(path);
  await again.end();
  expect((await vms.fleet.get('web').status()).state).toBe('running');
  await vms.end();
});

test('every mistake of the VMFile is printed, because test runners show one line of an error', async () => {
  await writeFile(join(project, 'VMFile.kdl'), 'vm "web" { imge "disk.raw" }\nvm "db" { image "nothing.raw" }\n');
  await expect(start()).rejects.toMatchObject({ code: 'VMFILE_INVALID' });
  const text = lines.join('\n');
  expect(text).toContain('imge');
  expect(text).toContain('nothing.raw');
});

test('a failing test leaves logs and status of each VM in a folder of its own, in place of those of an earlier run', async () => {
  const vms = await start();
  const { directory } = await vms.fleet.get('web').status();
  await writeFile(join(directory, VM_FILES.consoleLog), '\u001B[32mbooting\u001B[0m\n');
  const failed = { folder: join(project, 'artifacts'), file: 'test/web.test.ts', name: 'a page › is „there“' };
  const first = await saveArtifacts(vms.fleet, failed);
  expect(await readFile(join(first, 'web', 'console.log'), 'utf8')).toBe('booting\n');
  expect(JSON.parse(await readFile(join(first, 'db', 'status.json'), 'utf8'))).toMatchObject({ state: 'running' });
  await writeFile(join(directory, VM_FILES.consoleLog), 'again\n');
  const both = await Promise.all([saveArtifacts(vms.fleet, failed), saveArtifacts(vms.fleet, failed)]);
  expect(both).toEqual([first, first]);
  expect(await readFile(join(first, 'web', 'console.log'), 'utf8')).toBe('again\n');
  const other = await saveArtifacts(vms.fleet, { ...failed, name: 'a page › is „there”' });
  expect((await readdir(failed.folder)).map((name) => join(failed.folder, name)).toSorted()).toEqual(
    [first, other].toSorted(),
  );
  await vms.end();
});
