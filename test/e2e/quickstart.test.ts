import { execFile } from 'node:child_process';
import { cp } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { MachineRoom } from '../support/machine-room.js';

const project = fileURLToPath(new URL('../..', import.meta.url));
const NOT_IN_A_CLONE: ReadonlySet<string> = new Set(['.git', 'node_modules', 'dist', 'bench']);

/** As a new clone: the quickstart installs packages and builds vmctl, and other tests meanwhile run the one of this folder. */
async function cloneInto(folder: string): Promise<string> {
  const filter = (path: string) => !NOT_IN_A_CLONE.has(relative(project, path));
  await cp(project, folder, { recursive: true, filter });
  return folder;
}

test('npm run quickstart brings up two machines, lists them, and says how to get in and how to clean up', async () => {
  await using room = await MachineRoom.open();
  const checkout = await cloneInto(join(room.root, 'checkout'));
  const env = { ...process.env, XDG_DATA_HOME: `${room.paths.root}/..` };
  const { stdout, stderr } = await promisify(execFile)('npm', ['run', '--silent', 'quickstart'], {
    cwd: checkout,
    env,
    encoding: 'utf8',
  });
  expect(stderr).toContain('2 up');
  expect(stderr).toContain('db has 3 rows');
  expect(stdout).toMatch(/^web +qemu +running/m);
  expect(stdout).toMatch(/^db +qemu +running/m);
  expect(stdout).toContain('node dist/cli.js ssh web');
  const cleanUp = /^ {4}(node .* down --destroy .*)$/m.exec(stdout)?.[1] ?? '';
  expect(Object.keys(await room.machines())).toHaveLength(2);
  const served = await room.vmctl('exec', 'web', '--', 'cat', '/tmp/index.html');
  expect(served.stdout).toContain('Served by a virtual machine');
  await promisify(execFile)('sh', ['-c', cleanUp], { cwd: checkout, env });
  expect(await room.leftovers()).toEqual([]);
});
