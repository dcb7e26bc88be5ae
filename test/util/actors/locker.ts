/** Takes and releases locks. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { acquireLock, withLock } from '../../../src/util/lock.js';
import { identifyProcess } from '../../../src/util/process.js';
import { serve } from './serve.js';

const held = new Map<string, () => Promise<void>>();

async function acquire(path: string, timeoutMs: number): Promise<boolean> {
  try {
    held.set(path, await acquireLock(path, { command: 'locker', timeoutMs }));
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'LOCK_TIMEOUT') return false;
    throw error;
  }
}

async function release(path: string): Promise<void> {
  await held.get(path)?.();
  held.delete(path);
}

/** Adds one to a number in a file, so many times, reading and writing in two steps. */
async function count(path: string, file: string, times: number): Promise<void> {
  for (let round = 0; round < times; round += 1) {
    await withLock(path, { command: 'counter' }, async () => {
      const before = Number(await readFile(file, 'utf8'));
      await writeFile(file, String(before + 1));
    });
  }
}

/** Goes in and out until it is killed; fails when it meets another living one inside. */
async function patrol(path: string, inside: string): Promise<void> {
  for (;;) {
    await withLock(path, { command: 'patrol' }, async () => {
      const other = Number(await readFile(inside, 'utf8').catch(() => '0'));
      if ((await identifyProcess(other)) !== null) throw new Error(`${process.pid} met ${other} inside`);
      await writeFile(inside, String(process.pid));
      const now = await readFile(inside, 'utf8');
      if (now !== String(process.pid)) throw new Error(`${now} came in while ${process.pid} was inside`);
      await rm(inside);
    });
  }
}

serve({ acquire, release, count, patrol });
