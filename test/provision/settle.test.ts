import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, readdir, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { expect, test } from 'vitest';
import { settleScript } from '../../src/provision/settle.js';
import { temporaryDirectory } from '../support/fixtures.js';

const facts = { now: 0, random: new Uint8Array(1) };

test('a guest is saved only when its boot is over, and is not held up by that when it goes on', () => {
  const wait = 'systemctl is-system-running --wait';
  expect(settleScript({ ...facts, beforeSaving: true })).toContain(wait);
  expect(settleScript({ ...facts, beforeSaving: false })).not.toContain(wait);
});

/** Only root may add to the kernel's pool of random numbers, and not in every container. */
const NO_RANDOM = 42;
const OK_OR_NO_RANDOM = [0, NO_RANDOM];

/** Runs it on this host, which has another `date`: the host's clock stays as it is. New random numbers do no harm. */
async function settleHere(date: string) {
  await using directory = await temporaryDirectory();
  const folder = directory.path;
  await writeFile(join(folder, 'date'), `#!/bin/sh\n${date}\n`);
  await chmod(join(folder, 'date'), 0o700);
  const random = randomBytes(80);
  const { status } = spawnSync('sh', ['-s'], {
    input: settleScript({ now: 1_800_000_000_123, random, beforeSaving: false }),
    env: { HOME: folder, PATH: `${folder}${delimiter}${process.env['PATH'] ?? ''}` },
  });
  const left = (
    await Promise.all(['/run', '/dev/shm', '/tmp', '/var/tmp', folder].map((path) => readdir(path)))
  ).flat();
  const mark = random.subarray(0, 16).toString('hex');
  return { status, left: left.filter((name) => name.includes(mark)) };
}

test('the program that comes along removes itself, whether it may do what it is for or not', async () => {
  const { status, left } = await settleHere('exit 0');
  expect(OK_OR_NO_RANDOM).toContain(status);
  expect(left).toEqual([]);
});

test('a clock that cannot be set has a code of its own', async () => {
  expect([41, NO_RANDOM]).toContain((await settleHere('exit 1')).status);
});

test('a program of busybox, which takes whole seconds only, is given those', async () => {
  const { status } = await settleHere('case $* in *.*) exit 1 ;; *@1800000000) exit 0 ;; esac; exit 1');
  expect(OK_OR_NO_RANDOM).toContain(status);
});
