import { chmod, mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { VM_FILES, type StatePaths, statePaths } from '../src/paths.js';
import { Registry } from '../src/registry.js';
import * as fs from '../src/util/fs.js';
import {
  type TemporaryDirectory,
  putVm,
  temporaryDirectory,
  vmHandle,
  withoutPrivileges,
  vmSpec,
} from './support/fixtures.js';
import { type Script, bundleScript } from './util/actor.js';

vi.mock('../src/util/fs.js', { spy: true });

const NOW = new Date('2025-03-04T05:06:07.089Z');

let script: Script;
let directory: TemporaryDirectory;
let paths: StatePaths;
let registry: Registry;

beforeAll(async () => {
  script = await bundleScript('recorder');
});

afterAll(() => script[Symbol.asyncDispose]());

beforeEach(async () => {
  directory = await temporaryDirectory();
  paths = statePaths(join(directory.path, 'vmctl'));
  registry = newRegistry();
});

afterEach(async () => {
  await script.killAll();
  await directory[Symbol.asyncDispose]();
});

function newRegistry(): Registry {
  return new Registry({ paths, command: 'test' });
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

const registryWrites = () => vi.mocked(fs.writeFileAtomically).mock.calls.filter(([path]) => path === paths.registry);

describe('the list of VMs', () => {
  test('is empty where there is no state directory, and makes none', async () => {
    expect(await registry.list()).toEqual([]);
    expect(await registry.get('web')).toBeNull();
    expect(await readdir(directory.path)).toEqual([]);
  });

  test('has what was added, by name, and no longer what was removed', async () => {
    await add('web', 'db', 'Cache', 'web-2', 'web.1');
    expect(await names(newRegistry())).toEqual(['Cache', 'db', 'web', 'web-2', 'web.1']);
    await rm(paths.vm('db'), { recursive: true });
    await registry.remove('db');
    expect(await names(newRegistry())).toEqual(['Cache', 'web', 'web-2', 'web.1']);
    expect(JSON.parse(await readFile(paths.registry, 'utf8'))).toMatchObject({ schemaVersion: 1 });
    expect(await readFile(paths.registry, 'utf8')).not.toContain('"db"');
  });

  test('tells of each VM its backend, directory, VMFile and time', async () => {
    await add('web');
    expect(await registry.get('web')).toEqual({
      name: 'web',
      group: null,
      backend: 'noop',
      directory: paths.vm('web'),
      project: '/project/VMFile.kdl',
      createdAt: '2025-01-02T03:04:05.678Z',
    });
    expect((await stat(paths.registry)).mode & 0o777).toBe(0o600);
  });

  test('leaves out an entry whose directory is gone', async () => {
    await add('web', 'db');
    await rm(paths.vm('web'), { recursive: true });
    expect(await names()).toEqual(['db']);
    await add('cache');
    expect(await readFile(paths.registry, 'utf8')).not.toContain('"web"');
  });

  test('takes in a directory that is not recorded, and records it with the next change', async () => {
    await putVm(paths, { name: 'web', backend: 'qemu' });
    expect(await registry.get('web')).toMatchObject({ backend: 'qemu', project: '/project/VMFile.kdl' });
    await add('db');
    expect(await readFile(paths.registry, 'utf8')).toContain('"web"');
  });

  test('does not take files, VMs under construction and other folders for VMs', async () => {
    await add('web');
    for (const name of ['.staging-db', '.removing-cache', 'lost+found']) await mkdir(join(paths.vms, name));
    await writeFile(join(paths.vms, 'notes'), '');
    expect(await names()).toEqual(['web']);
  });

  test('follows a state directory that was moved', async () => {
    await add('web');
    await fs.makeDirectory(join(directory.path, 'elsewhere'));
    const moved = statePaths(join(directory.path, 'elsewhere', 'vmctl'));
    await rename(paths.root, moved.root);
    const entry = await new Registry({ paths: moved, command: 'test' }).get('web');
    expect(entry?.directory).toBe(moved.vm('web'));
  });
});

describe('many changes at once', () => {
  test('of one process share a few writes, and none is lost', async () => {
    const all = Array.from({ length: 60 }, (_, index) => `vm-${String(index).padStart(2, '0')}`);
    const handles = await Promise.all(all.map((name) => putVm(paths, { name })));
    await Promise.all(handles.map((handle) => registry.add(handle)));
    expect(registryWrites().length).toBeLessThanOrEqual(2);
    expect(Object.keys(JSON.parse(await readFile(paths.registry, 'utf8')).vms)).toEqual(expect.arrayContaining(all));
  });

  test('of many processes lose nothing', async () => {
    const actors = await Promise.all(Array.from({ length: 4 }, () => script.start()));
    const all = actors.flatMap((_, actor) => Array.from({ length: 8 }, (__, index) => `vm-${actor}-${index}`));
    await Promise.all(
      actors.map(async (actor, index) => {
        const own = all.filter((name) => name.startsWith(`vm-${index}-`));
        for (const name of own) await actor.ask('add', paths.root, [name]);
      }),
    );
    const recorded: { vms: object } = JSON.parse(await readFile(paths.registry, 'utf8'));
    expect(Object.keys(recorded.vms).toSorted()).toEqual(all.toSorted());
    expect(await readdir(paths.locks)).toEqual([]);
  });

  test('that fail are told to those who made them, and later ones are written', async () => {
    const web = await putVm(paths, { name: 'web' });
    let later: Promise<void> = Promise.resolve();
    vi.mocked(fs.writeFileAtomically).mockImplementationOnce(async () => {
      // Without a directory, so that only this change can bring it into the file.
      later = registry.add(vmHandle({ name: 'db' }));
      throw new Error('the disk is full');
    });
    await expect(registry.add(web)).rejects.toThrow('the disk is full');
    await later;
    expect(await readFile(paths.registry, 'utf8')).toContain('"db"');
    await registry.add(web);
    expect(await names()).toEqual(['web']);
  });
});

describe('the handle', () => {
  test('is what was prepared, in the directory where it is now', async () => {
    const handle = await putVm(paths, { name: 'web' });
    await writeFile(join(handle.directory, VM_FILES.handle), JSON.stringify({ ...handle, directory: '/moved/from' }));
    expect(await registry.handle(await get('web'))).toEqual(handle);
  });

  test('of a VM that was removed since it was looked up is not there, and nothing is damaged', async () => {
    await add('web');
    const entry = await get('web');
    await rm(entry.directory, { recursive: true });
    await expect(registry.handle(entry)).rejects.toMatchObject({ code: 'VM_NOT_FOUND' });
  });

  test('of a version that knew no LAN is that of a VM on none', async () => {
    const handle = await putVm(paths, { name: 'web' });
    const network = { kind: 'user', forwards: [] };
    const old = JSON.stringify({ ...handle, spec: { ...handle.spec, network } });
    await writeFile(join(handle.directory, VM_FILES.handle), old);
    expect((await registry.handle(await get('web'))).spec.network).toEqual({ ...network, lan: null });
  });

  test('keeps who is on the LAN of the VM', async () => {
    const members = [{ vm: 'web', address: '10.77.0.11', names: ['web', 'www'] }];
    const network = { kind: 'user', forwards: [], lan: { name: 'back', address: '10.77.0.11', members } } as const;
    await putVm(paths, { name: 'web', spec: vmSpec({ name: 'web', network }) });
    expect((await registry.handle(await get('web'))).spec.network).toEqual(network);
  });
});

describe('the record', () => {
  test('of a version that knew no LAN says that its hosts file has no names of one', async () => {
    await add('web');
    await writeFile(join(paths.vm('web'), VM_FILES.record), '{"provisioning":"done","steps":[],"lastFailure":null}');
    expect(await registry.record(await get('web'))).toMatchObject({ provisioning: 'done', hosts: null });
  });

  test('of a new VM says that it is to be provisioned and that nothing has failed', async () => {
    await add('web');
    expect(await registry.record(await get('web'))).toEqual({
      provisioning: 'pending',
      steps: [],
      hosts: null,
      warm: null,
      lastFailure: null,
    });
  });

  test('keeps what is not changed', async () => {
    await add('web');
    const web = await get('web');
    const error = {
      code: 'READY_TIMEOUT',
      message: 'too late',
      hint: null,
      details: 'x',
      fields: { vm: 'web' },
    } as const;
    const lastFailure = { step: 'provision', time: NOW.toISOString(), error } as const;
    await registry.updateRecord(web, { lastFailure });
    await registry.updateRecord(web, { provisioning: 'failed' });
    expect(await newRegistry().record(web)).toEqual({
      provisioning: 'failed',
      steps: [],
      hosts: null,
      warm: null,
      lastFailure,
    });
    await registry.updateRecord(web, { provisioning: 'done', lastFailure: null });
    expect(await registry.record(web)).toEqual({
      provisioning: 'done',
      steps: [],
      hosts: null,
      warm: null,
      lastFailure: null,
    });
  });

  test('keeps what a VM is waited for, in every kind of it', async () => {
    await add('web');
    const conditions = [
      { kind: 'port', port: 1 },
      { kind: 'http', path: '/', port: 80, status: null },
      { kind: 'log', pattern: 'up', flags: 'i' },
      { kind: 'shell', command: 'true' },
      { kind: 'file', path: '/x' },
      { kind: 'unit', unit: 'a' },
      { kind: 'cloud-init' },
    ] as const;
    const ready = { conditions, timeoutSeconds: 5, since: NOW.toISOString() };
    const consoleStart = { from: 7, frozen: 'a'.repeat(32) };
    await registry.updateRecord(await get('web'), { ready, consoleStart });
    expect(await newRegistry().record(await get('web'))).toMatchObject({ ready, consoleStart, steps: [] });
    const handle = await putVm(paths, {
      name: 'db',
      spec: vmSpec({ name: 'db', ready: { conditions, timeoutSeconds: null } }),
    });
    expect(await registry.handle(await get('db'))).toEqual(handle);
  });

  test('of a VM that was made before there was `ready` is waited for by nothing', async () => {
    const handle = await putVm(paths, { name: 'old' });
    const { ready: _later, ...spec } = handle.spec;
    await writeFile(join(handle.directory, VM_FILES.handle), JSON.stringify({ ...handle, spec }));
    expect((await registry.handle(await get('old'))).spec.ready).toBeNull();
  });

  test('that is damaged counts as new', async () => {
    await add('web');
    await writeFile(join(paths.vm('web'), VM_FILES.record), '{"provisioning":"maybe"}');
    expect(await registry.record(await get('web'))).toEqual({
      provisioning: 'pending',
      steps: [],
      hosts: null,
      warm: null,
      lastFailure: null,
    });
  });

  test('does not touch vms.json', async () => {
    await add('web');
    const before = await stat(paths.registry);
    await registry.updateRecord(await get('web'), { provisioning: 'done' });
    expect((await stat(paths.registry)).ino).toBe(before.ino);
  });
});

describe('a state directory', () => {
  test('that may not be written is an error with a hint, and the list can still be read', async () => {
    await add('web');
    const db = await putVm(paths, { name: 'db' });
    await chmod(directory.path, 0o755);
    for (const path of [paths.root, paths.vms, paths.locks, paths.vm('web'), paths.vm('db')]) await chmod(path, 0o555);
    await chmod(paths.registry, 0o444);
    await withoutPrivileges(async () => {
      expect(await names()).toEqual(['db', 'web']);
      await expect(registry.add(db)).rejects.toMatchObject({
        code: 'STATE_DIRECTORY',
        message: expect.stringContaining('EACCES'),
        hint: 'Check who owns it and its permissions.',
      });
    });
    for (const path of [paths.root, paths.vms, paths.locks, paths.vm('web'), paths.vm('db')]) await chmod(path, 0o700);
  });

  test('that is a file is an error that names it', async () => {
    await writeFile(paths.root, '');
    await expect(registry.add(vmHandle({ name: 'web' }))).rejects.toMatchObject({
      code: 'STATE_DIRECTORY',
      message: expect.stringContaining(paths.root),
    });
  });

  test('keeps nothing of writers that were killed', async () => {
    await add('web');
    await writeFile(`${paths.registry}.4711-0a1b2c3d.tmp`, '{"half');
    await writeFile(join(paths.root, 'vms.jsonl'), '');
    await add('db');
    expect(await rootFiles()).toEqual(['locks', 'vms', 'vms.json', 'vms.jsonl']);
  });
});

describe('looking at the registry', () => {
  test('tells what is recorded, what is only there, and what is gone, and writes nothing', async () => {
    await add('web', 'lost');
    await putVm(paths, { name: 'unrecorded' });
    await rm(paths.vm('lost'), { recursive: true });
    const text = await readFile(paths.registry, 'utf8');
    const view = await registry.look();
    expect(view.entries.map(({ name }) => name).toSorted()).toEqual(['unrecorded', 'web']);
    expect({ ...view, entries: null, recorded: [...view.recorded].toSorted() }).toEqual({
      entries: null,
      recorded: ['lost', 'web'],
      gone: ['lost'],
      damaged: false,
    });
    expect(await readFile(paths.registry, 'utf8')).toBe(text);
  });

  test('does not repair a damaged file, and still tells what is there', async () => {
    await add('web');
    await writeFile(paths.registry, '{');
    expect(await registry.look()).toMatchObject({ entries: [{ name: 'web' }], gone: [], damaged: true });
    expect((await rootFiles()).filter((name) => name.startsWith('vms.json'))).toEqual(['vms.json']);
    expect(await readFile(paths.registry, 'utf8')).toBe('{');
  });
});
