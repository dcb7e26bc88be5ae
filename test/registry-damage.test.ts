/** What the registry does when its own files are damaged: it tells, it rebuilds, and it loses no VM. */
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { VmctlError } from '../src/errors.js';
import { VM_FILES, type StatePaths, statePaths } from '../src/paths.js';
import { Registry } from '../src/registry.js';
import { type TemporaryDirectory, putVm, temporaryDirectory, vmHandle, vmSpec } from './support/fixtures.js';
import { type Script, bundleScript } from './util/actor.js';

const NOW = new Date('2025-03-04T05:06:07.089Z');

let script: Script;
let directory: TemporaryDirectory;
let paths: StatePaths;
let notes: string[];
let registry: Registry;

beforeAll(async () => {
  script = await bundleScript('recorder');
});

afterAll(() => script[Symbol.asyncDispose]());

beforeEach(async () => {
  directory = await temporaryDirectory();
  paths = statePaths(join(directory.path, 'vmctl'));
  notes = [];
  registry = newRegistry();
});

afterEach(async () => {
  await script.killAll();
  await directory[Symbol.asyncDispose]();
});

function newRegistry(): Registry {
  return new Registry({ paths, command: 'test', onNote: (note) => notes.push(note), clock: () => NOW });
}

async function add(...names: readonly string[]): Promise<void> {
  for (const name of names) await registry.add(await putVm(paths, { name }));
}

const names = async (from = registry) => (await from.list()).map(({ name }) => name);

async function get(name: string) {
  const entry = await registry.get(name);
  if (entry === null) throw new Error(`${name} is not in the registry`);
  return entry;
}

const rootFiles = async () => (await readdir(paths.root)).toSorted();

describe('a damaged vms.json', () => {
  const aside = () => `${paths.registry}.damaged-2025-03-04T05-06-07-089Z`;

  test.each([
    ['is empty', ''],
    ['is cut off', '{"schemaVersion":1,"vms":{"web":{"na'],
    ['has wrong types', '{"schemaVersion":1,"vms":{"web":{"name":7}}}'],
    ['is of an unknown version', '{"schemaVersion":99,"vms":{}}'],
    ['is no object', 'null'],
    ['is binary', '\u0000\u0001\ufffd\u0000'],
  ])('that %s is set aside under a name that is told, and the list is rebuilt', async (_what, text) => {
    await add('web', 'db');
    await writeFile(paths.registry, text);
    expect(await names()).toEqual(['db', 'web']);
    expect(await readFile(aside(), 'utf8')).toBe(text);
    expect(notes).toEqual([
      `${paths.registry} was damaged; it is now ${aside()}, and the list of VMs was rebuilt from ${paths.vms}`,
    ]);
    expect(await names(newRegistry())).toEqual(['db', 'web']);
    expect(notes).toHaveLength(1);
  });

  test('is set aside before something is added, and bytes that are no text stay as they are', async () => {
    await add('web');
    const bytes = new Uint8Array([0xff, 0xfe, 0x00, 0x80]);
    await writeFile(paths.registry, bytes);
    await add('db');
    expect(new Uint8Array(await readFile(aside()))).toEqual(bytes);
    expect(await names()).toEqual(['db', 'web']);
    expect(notes).toHaveLength(1);
  });

  test('never replaces one that was set aside before', async () => {
    await add('web');
    for (const text of ['first', 'second', 'third']) {
      await writeFile(paths.registry, text);
      await registry.list();
    }
    const kept = [aside(), `${aside()}-2`, `${aside()}-3`];
    expect(await Promise.all(kept.map((path) => readFile(path, 'utf8')))).toEqual(['first', 'second', 'third']);
    expect(notes.map((note) => kept.findIndex((path) => note.includes(`${path},`)))).toEqual([0, 1, 2]);
  });

  test('is repaired once by many processes that see it at the same time', async () => {
    await add('web', 'db');
    const actors = await Promise.all(Array.from({ length: 4 }, () => script.start()));
    await writeFile(paths.registry, 'damaged');
    const answers = await Promise.all(actors.map((actor) => actor.ask('list', paths.root)));
    for (const answer of answers) expect(answer).toMatchObject({ names: ['db', 'web'] });
    expect(answers.filter((answer) => JSON.stringify(answer).includes('was damaged'))).toHaveLength(1);
    expect((await rootFiles()).filter((name) => name.includes('damaged'))).toHaveLength(1);
  });

  test('is rebuilt also where the one who set it aside was killed before he wrote a new one', async () => {
    await add('web');
    await rm(paths.registry);
    expect(await names()).toEqual(['web']);
  });
});

describe('a VM with a damaged vm.json', () => {
  const damage = (name: string, text: string) => writeFile(join(paths.vm(name), VM_FILES.handle), text);

  test('stays on the list and does not keep the others from it, and says what to do', async () => {
    await add('web', 'db');
    await damage('web', '{"name":"web"');
    expect(await names()).toEqual(['db', 'web']);
    await expect(registry.handle(await get('web'))).rejects.toMatchObject({
      code: 'VM_DAMAGED',
      message: `VM "web" is damaged: ${paths.vm('web')}/vm.json is unreadable`,
      hint: 'Remove what is left of it with: vmctl destroy web',
      fields: { vm: 'web' },
    });
    expect((await registry.handle(await get('db'))).name).toBe('db');
  });

  test('that is missing is told as such', async () => {
    await add('web');
    await rm(join(paths.vm('web'), VM_FILES.handle));
    await expect(registry.handle(await get('web'))).rejects.toThrow(
      `VM "web" is damaged: ${paths.vm('web')}/vm.json is missing`,
    );
  });

  test('is never one that somebody removes and makes anew while it is looked at', async () => {
    const handle = await putVm(paths, { name: 'web' });
    await registry.add(handle);
    const entry = await get('web');
    const end = new AbortController();
    const others = (async () => {
      const [staging, removed] = [paths.vmStaging('web'), join(paths.vms, '.removing-web')];
      while (!end.signal.aborted) {
        await mkdir(staging);
        await writeFile(join(staging, VM_FILES.handle), JSON.stringify(handle));
        await rename(paths.vm('web'), removed);
        await rm(removed, { recursive: true });
        await rename(staging, paths.vm('web'));
      }
    })();
    const outcomes = new Set<string>();
    for (let time = 0; time < 1000; time += 1) {
      await turn();
      outcomes.add(
        await registry.handle(entry).then(
          () => 'there',
          (error: VmctlError) => error.code,
        ),
      );
    }
    end.abort();
    await others;
    outcomes.delete('VM_NOT_FOUND');
    expect([...outcomes]).toEqual(['there']);
  });

  test('stays on the list when vms.json is damaged as well, for its files and its QEMU are still there', async () => {
    await add('web', 'db');
    await damage('web', 'damaged');
    await writeFile(paths.registry, 'damaged');
    expect(await names()).toEqual(['db', 'web']);
    expect(await get('web')).toEqual({
      name: 'web',
      group: null,
      backend: 'qemu',
      directory: paths.vm('web'),
      project: null,
      createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    await expect(registry.handle(await get('web'))).rejects.toMatchObject({ code: 'VM_DAMAGED' });
  });

  test('keeps what can still be read of it when it is not recorded', async () => {
    await add('db');
    const { uuid: _lost, ...rest } = vmHandle({ name: 'web', spec: vmSpec({ project: '/other/VMFile.kdl' }) });
    await mkdir(paths.vm('web'));
    await damage('web', JSON.stringify(rest));
    const { backend, createdAt } = rest;
    expect(await get('web')).toMatchObject({ name: 'web', backend, createdAt, project: '/other/VMFile.kdl' });
    await damage('web', JSON.stringify({ ...rest, backend: 'unheard-of', createdAt: 7, spec: null }));
    expect(await get('web')).toMatchObject({ name: 'web', backend: 'qemu', project: null });
  });

  test('is one whose directory is a copy of another VM’s, so that nothing is done to that one', async () => {
    const handle = await putVm(paths, { name: 'web' });
    await registry.add(handle);
    await mkdir(paths.vm('copy'));
    await damage('copy', JSON.stringify(handle));
    expect(await names()).toEqual(['copy', 'web']);
    await expect(registry.handle(await get('copy'))).rejects.toMatchObject({
      code: 'VM_DAMAGED',
      message: `VM "copy" is damaged: ${paths.vm('copy')}/vm.json is that of VM "web"`,
    });
  });
});
