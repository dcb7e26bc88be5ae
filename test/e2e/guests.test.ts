import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';

const builder = fileURLToPath(new URL('../guest/build.sh', import.meta.url));

test('a guest is built once, however many processes ask for it at the same time', async () => {
  const cache = await mkdtemp(join(tmpdir(), 'vmctl-guests-'));
  onTestFinished(() => rm(cache, { recursive: true, force: true }));
  const build = () =>
    promisify(execFile)(builder, ['pocket'], { env: { ...process.env, VMCTL_GUEST_CACHE: cache }, encoding: 'utf8' });
  const builds = await Promise.all([build(), build(), build()]);
  const paths = new Set(builds.map(({ stdout }) => stdout.trim()));
  expect(paths.size).toBe(1);
  const [path = ''] = paths;
  expect((await readdir(cache)).filter((name) => name.endsWith('.qcow2'))).toEqual([basename(path)]);
  const told = builds.map(({ stderr }) => stderr).join('');
  expect(told.match(/guest pocket: built in/g)).toHaveLength(1);
  expect(told.match(/guest pocket: waiting for another build/g)).toHaveLength(2);
});
