/** The same lock wanted by many real processes at once. */
import { randomUUID } from 'node:crypto';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { lockOwner } from '../../src/util/lock.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';
import { type Actor, type Script, bundleScript } from './actor.js';

let script: Script;
let directory: TemporaryDirectory;
let path: string;

beforeAll(async () => {
  script = await bundleScript('locker');
});

afterAll(() => script[Symbol.asyncDispose]());

beforeEach(async () => {
  directory = await temporaryDirectory();
  path = join(directory.path, 'test.lock');
});

afterEach(async () => {
  await script.killAll();
  await directory[Symbol.asyncDispose]();
});

const startActors = (count: number) => Promise.all(Array.from({ length: count }, () => script.start()));

test('no process overwrites what another one wrote under the lock', async () => {
  const counter = join(directory.path, 'counter');
  await writeFile(counter, '0');
  const actors = await startActors(6);
  await Promise.all(actors.map((actor) => actor.ask('count', path, counter, 15)));
  expect(await readFile(counter, 'utf8')).toBe('90');
  expect(await readdir(directory.path)).toEqual(['counter']);
});

test('the lock of a process that was killed is taken over by exactly one of those that wait', async () => {
  const actors = await startActors(5);
  for (let round = 0; round < 40; round += 1) {
    const killed = { id: randomUUID(), pid: 2 ** 30, startTime: 'then', command: 'killed' };
    await writeFile(path, JSON.stringify(killed));
    const outcomes = await Promise.all(actors.map((actor) => actor.ask('acquire', path, 0)));
    expect(outcomes.filter((taken) => taken === true)).toHaveLength(1);
    await actors[outcomes.indexOf(true)]?.ask('release', path);
    expect(await readdir(directory.path)).toEqual([]);
  }
});

test('a damaged lock is taken over by exactly one of those that wait', async () => {
  const actors = await startActors(5);
  for (let round = 0; round < 15; round += 1) {
    await writeFile(path, '');
    const outcomes = await Promise.all(actors.map((actor) => actor.ask('acquire', path, 0)));
    expect(outcomes.filter((taken) => taken === true)).toHaveLength(1);
    await actors[outcomes.indexOf(true)]?.ask('release', path);
    expect(await readdir(directory.path)).toEqual([]);
  }
});

test('a waiting process goes on as soon as the owner is killed', async () => {
  const [owner, next] = await startActors(2);
  await owner?.ask('acquire', path, 0);
  expect(await lockOwner(path)).toMatchObject({ pid: owner?.pid });
  const taken = next?.ask('acquire', path, 20_000);
  await owner?.kill();
  expect(await taken).toBe(true);
  expect(await lockOwner(path)).toMatchObject({ pid: next?.pid });
});

test('processes that are killed anywhere never let two others in, and leave nothing behind', async () => {
  const inside = join(directory.path, 'inside');
  const failures: unknown[] = [];
  const patrol = (actor: Actor) => {
    // A patrol never ends by itself; an actor that is killed says so.
    actor.ask('patrol', path, inside).catch((error: unknown) => {
      if (!String(error).includes('the actor was killed')) failures.push(error);
    });
    return actor;
  };
  const actors = (await startActors(5)).map(patrol);
  for (let round = 0; round < 12; round += 1) {
    const fresh = await script.start();
    await actors.shift()?.kill();
    actors.push(patrol(fresh));
  }
  for (const actor of actors) await actor.kill();
  expect(failures).toEqual([]);
  const last = await script.start();
  expect(await last.ask('acquire', path, 0)).toBe(true);
  expect((await readdir(directory.path)).filter((name) => name !== 'inside')).toEqual(['test.lock']);
});
