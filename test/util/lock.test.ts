import { randomUUID } from 'node:crypto';
import { mkdir, readFile, readdir, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type LockOwner, acquireLock, deadLocks, lockOwner, withLock } from '../../src/util/lock.js';
import { identifyProcess } from '../../src/util/process.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';

/** More than any host gives out (proc_sys_kernel(5), pid_max). */
const DEAD_PID = 2 ** 30;

let directory: TemporaryDirectory;
let path: string;

beforeEach(async () => {
  directory = await temporaryDirectory();
  path = join(directory.path, 'vm-web.lock');
});

afterEach(() => directory[Symbol.asyncDispose]());

function dead(changes: Partial<LockOwner> = {}): LockOwner {
  return { id: randomUUID(), pid: DEAD_PID, startTime: 'then', command: 'vmctl up', ...changes };
}

async function living(changes: Partial<LockOwner> = {}): Promise<LockOwner> {
  const me = await identifyProcess(process.pid);
  if (me === null) throw new Error('this process cannot identify itself');
  return dead({ ...me, ...changes });
}

const put = (name: string, owner: LockOwner) => writeFile(join(directory.path, name), JSON.stringify(owner));

const files = () => readdir(directory.path);

describe('a lock', () => {
  test('is there while it is held, for its owner alone, and gone afterwards', async () => {
    const seen = await withLock(path, { command: 'vmctl up' }, async () => {
      // What ext4 keeps in the inode: taking a lock takes no block of the disk.
      expect((await readlink(path)).length).toBeLessThan(60);
      return [await files(), await lockOwner(path)] as const;
    });
    expect(seen).toEqual([['vm-web.lock'], expect.objectContaining({ pid: process.pid, command: 'vmctl up' })]);
    expect(await files()).toEqual([]);
    expect(await lockOwner(path)).toBeNull();
  });

  test('is released when the work throws', async () => {
    const work = withLock(path, { command: 'test' }, () => Promise.reject(new Error('the work failed')));
    await expect(work).rejects.toThrow('the work failed');
    expect(await files()).toEqual([]);
  });

  test('makes its directory', async () => {
    await withLock(join(directory.path, 'locks', 'x.lock'), { command: 'test' }, async () => {});
    expect((await stat(join(directory.path, 'locks'))).mode & 0o777).toBe(0o700);
  });

  test('excludes another caller of the same process', async () => {
    const order: string[] = [];
    const release = await acquireLock(path, { command: 'first' });
    const second = withLock(path, { command: 'second', onWait: () => order.push('waiting') }, async () => {
      order.push('second');
    });
    await expect.poll(() => order).toEqual(['waiting']);
    await release();
    await second;
    expect(order).toEqual(['waiting', 'second']);
  });

  test('that is released twice is not taken from its next owner', async () => {
    const release = await acquireLock(path, { command: 'first' });
    await release();
    const releaseSecond = await acquireLock(path, { command: 'second' });
    await release();
    expect(await lockOwner(path)).toMatchObject({ command: 'second' });
    await releaseSecond();
  });

  test('in a directory that cannot be made is an error of the state directory', async () => {
    await writeFile(join(directory.path, 'file'), '');
    const attempt = acquireLock(join(directory.path, 'file', 'x.lock'), { command: 'test' });
    await expect(attempt).rejects.toMatchObject({ code: 'STATE_DIRECTORY' });
  });

  test('whose place is taken by a directory is an error of the state directory and leaves nothing else', async () => {
    await mkdir(path);
    const attempt = acquireLock(path, { command: 'test', timeoutMs: 0 });
    await expect(attempt).rejects.toMatchObject({ code: 'STATE_DIRECTORY' });
    expect(await files()).toEqual(['vm-web.lock']);
  });
});

describe('a lock with a living owner', () => {
  test('is waited for, and the owner is told once', async () => {
    await put('vm-web.lock', await living({ command: 'vmctl down' }));
    const owners: LockOwner[] = [];
    const options = { command: 'vmctl up', timeoutMs: 100, onWait: (owner: LockOwner) => void owners.push(owner) };
    await expect(acquireLock(path, options)).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' });
    expect(owners).toEqual([expect.objectContaining({ command: 'vmctl down', pid: process.pid })]);
  });

  test('is given up on at the deadline, with the one who has it, and nothing is left of the wait', async () => {
    await put('vm-web.lock', await living({ command: 'vmctl down' }));
    await expect(acquireLock(path, { command: 'vmctl up', timeoutMs: 50 })).rejects.toMatchObject({
      code: 'LOCK_TIMEOUT',
      message: `"vmctl down" (pid ${process.pid}) has held ${path} for more than 0.05 s`,
      hint: 'Wait for it to finish, or end it, and try again.',
      fields: { path, pid: process.pid },
    });
    expect(await files()).toEqual(['vm-web.lock']);
  });

  test('is no longer waited for when cancelled, and nothing is left of the wait', async () => {
    await put('vm-web.lock', await living());
    const controller = new AbortController();
    const options = { command: 'vmctl up', signal: controller.signal, onWait: () => controller.abort() };
    await expect(acquireLock(path, options)).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await files()).toEqual(['vm-web.lock']);
  });

  test('is not taken when the one who listens for the wait throws', async () => {
    await put('vm-web.lock', await living());
    const onWait = () => {
      throw new Error('the listener failed');
    };
    await expect(acquireLock(path, { command: 'test', onWait })).rejects.toThrow('the listener failed');
    expect(await files()).toEqual(['vm-web.lock']);
  });
});

describe('a lock with a dead owner', () => {
  test('has no owner', async () => {
    await put('vm-web.lock', dead());
    expect(await lockOwner(path)).toBeNull();
  });

  test('is taken over, and nothing is left of the dead', async () => {
    await put('vm-web.lock', dead());
    const release = await acquireLock(path, { command: 'vmctl up' });
    expect(await files()).toEqual(['vm-web.lock']);
    expect(await lockOwner(path)).toMatchObject({ pid: process.pid, command: 'vmctl up' });
    await release();
    expect(await files()).toEqual([]);
  });

  test('is taken over when its pid is that of another process now', async () => {
    await put('vm-web.lock', await living({ startTime: 'another' }));
    await withLock(path, { command: 'vmctl up' }, async () => {
      expect(await lockOwner(path)).toMatchObject({ command: 'vmctl up' });
    });
  });

  test.each([
    ['is empty', ''],
    ['is cut off', '{"id":"4b1'],
    ['is no object', 'null'],
    ['has wrong types', '{"id":7,"pid":"x"}'],
    ['has an id that leads elsewhere', JSON.stringify(dead({ id: '../../elsewhere' }))],
    ['is binary', '\u0000\u0001\ufffd'],
  ])('is taken over when its file %s', async (_what, text) => {
    await writeFile(path, text);
    await withLock(path, { command: 'vmctl up', timeoutMs: 0 }, async () => {
      expect(await lockOwner(path)).toMatchObject({ command: 'vmctl up' });
      expect(await files()).toEqual(['vm-web.lock']);
    });
  });

  test('is taken over when it is a link that leads somewhere', async () => {
    await symlink('notes.txt', path);
    await withLock(path, { command: 'vmctl up', timeoutMs: 0 }, async () => {
      expect(await lockOwner(path)).toMatchObject({ command: 'vmctl up' });
      expect(await files()).toEqual(['vm-web.lock']);
    });
  });

  test('is taken over when the one who was taking it over was killed before it did', async () => {
    const [owner, taker, next] = [dead(), dead(), dead()];
    await put('vm-web.lock', owner);
    await put(`vm-web.lock.after-${owner.id}`, taker);
    await put(`vm-web.lock.after-${taker.id}`, next);
    await withLock(path, { command: 'vmctl up', timeoutMs: 0 }, async () => {
      expect(await files()).toEqual(['vm-web.lock']);
    });
  });

  test('is taken over when the one who was taking it over was killed right after it did', async () => {
    const [owner, taker] = [dead(), dead()];
    await put('vm-web.lock', taker);
    await put(`vm-web.lock.after-${owner.id}`, taker);
    await withLock(path, { command: 'vmctl up', timeoutMs: 0 }, async () => {
      expect(await files()).toEqual(['vm-web.lock']);
    });
  });

  test('is left to a living process that is taking it over', async () => {
    const owner = dead();
    await put('vm-web.lock', owner);
    await put(`vm-web.lock.after-${owner.id}`, await living());
    await expect(acquireLock(path, { command: 'test', timeoutMs: 50 })).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' });
    expect(await readFile(path, 'utf8')).toBe(JSON.stringify(owner));
  });
});

test('tickets and claims of killed processes are removed; those of the living and files of other locks are not', async () => {
  const stays = [
    `vm-web.lock.${process.pid}-${randomUUID()}`,
    `vm-web.lock.${process.pid}-${randomUUID()}.copy`,
    // Locks of VMs with hostile names.
    `vm-web.lock.after-${randomUUID()}.lock`,
    'vm-web.lock.x.lock',
    `vm-web.${randomUUID()}`,
  ];
  const goes = [
    `vm-web.lock.${DEAD_PID}-${randomUUID()}`,
    `vm-web.lock.${DEAD_PID}-${randomUUID()}.copy`,
    `vm-web.lock.after-${randomUUID()}`,
    'vm-web.lock.after-damaged-4711',
  ];
  for (const name of [...stays, ...goes]) await put(name, dead());
  await withLock(path, { command: 'test' }, async () => {});
  expect((await files()).toSorted()).toEqual(stays.toSorted());
});

describe('the locks that the dead have left', () => {
  const found = async () => (await deadLocks(directory.path)).map((lock) => lock.slice(directory.path.length + 1));

  test('are those of dead owners, and those of which only tickets and claims of the dead are left', async () => {
    await put('dead.lock', dead());
    await put(`ticket.lock.${DEAD_PID}-${randomUUID()}`, dead());
    await put(`claim.lock.after-${randomUUID()}`, dead());
    await writeFile(join(directory.path, 'torn.lock'), '{"id');
    await put('living.lock', await living());
    await put(`awaited.lock.${process.pid}-${randomUUID()}`, await living());
    await writeFile(join(directory.path, 'notes.lock.txt'), '');
    expect(await found()).toEqual(['claim.lock', 'dead.lock', 'ticket.lock', 'torn.lock']);
  });

  test('are gone when somebody has taken and released them', async () => {
    await put('dead.lock', dead());
    await put(`dead.lock.${DEAD_PID}-${randomUUID()}`, dead());
    await put(`claim.lock.after-${randomUUID()}`, dead());
    for (const lock of await deadLocks(directory.path)) await withLock(lock, { command: 'gc' }, async () => {});
    expect(await files()).toEqual([]);
  });

  test('are none where there is no directory', async () => {
    expect(await deadLocks(join(directory.path, 'nowhere'))).toEqual([]);
  });
});
