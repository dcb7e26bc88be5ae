/** A world that is not as it should be: what may not be written, what is missing or too old, and a clock that jumps. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { QemuBackend } from '../../src/hypervisor/qemu/backend.js';
import { Registry } from '../../src/registry.js';
import { putVm, temporaryDirectory, vmSpec, withoutPrivileges } from '../support/fixtures.js';
import { Rig } from '../support/rig.js';

vi.setConfig({ testTimeout: 120_000 });

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

/** Commands that change something. */
const CHANGES: readonly (readonly string[])[] = [
  ['up'],
  ['reload', 'web'],
  ['stop', 'web'],
  ['suspend', 'web'],
  ['down'],
  ['down', '--destroy'],
  ['destroy', 'web', '--yes'],
  ['create', '--name', 'other', '--image', 'disk.raw'],
];

/** A rig with a VM that runs, all of it the plain user's. */
async function ofPlainUser(): Promise<Rig> {
  const rig = await Rig.create();
  await rig.declare({ web: '' });
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
  if (process.geteuid?.() === 0) spawnSync('chown', ['-R', '65534:65534', rig.root]);
  return rig;
}

describe('a state directory', () => {
  test('that may only be read is listed, and whatever would change it says so and changes nothing', async () => {
    await using rig = await ofPlainUser();
    for (const folder of [rig.paths.root, rig.paths.vms, rig.paths.locks, rig.paths.vm('web')])
      await chmod(folder, 0o500);
    const before = await readdir(rig.paths.root, { recursive: true });
    await withoutPrivileges(async () => {
      expect(await rig.states()).toEqual({ web: 'running' });
      expect(await rig.vmctl(['status', 'web'])).toMatchObject({ exitCode: 0 });
      for (const words of CHANGES) {
        const { exitCode, stderr } = await rig.vmctl(words);
        expect({ words, exitCode, stderr }).toEqual({
          words,
          exitCode: 1,
          stderr: expect.stringMatching(/error: .*EACCES[^]*hint: Check who owns it and its permissions\./),
        });
      }
    });
    expect(await readdir(rig.paths.root, { recursive: true })).toEqual(before);
    expect(await rig.states()).toEqual({ web: 'running' });
    for (const folder of [rig.paths.root, rig.paths.vms, rig.paths.locks, rig.paths.vm('web')])
      await chmod(folder, 0o700);
  });

  test('of somebody else is told as such by every command', async () => {
    await using rig = await ofPlainUser();
    if (process.geteuid?.() === 0) spawnSync('chown', ['0:0', rig.paths.root]);
    await chmod(rig.paths.root, process.geteuid?.() === 0 ? 0o700 : 0);
    await withoutPrivileges(async () => {
      for (const words of [['list'], ['status', 'web'], ['gc'], ...CHANGES]) {
        const { exitCode, stderr } = await rig.vmctl(words);
        expect({ words, exitCode, stderr }).toEqual({
          words,
          exitCode: 1,
          stderr: expect.stringMatching(/error: .*EACCES[^]*hint: Check who owns it and its permissions\./),
        });
      }
    });
    await chmod(rig.paths.root, 0o700);
  });

  test('with 1,000 VMs is listed, changed and emptied', { timeout: 120_000 }, async () => {
    await using rig = await Rig.create();
    const { paths } = rig;
    const registry = new Registry({ paths, command: 'test' });
    const names = Array.from({ length: 1_000 }, (_, index) => `vm-${String(index).padStart(4, '0')}`);
    const project = join(rig.project, 'VMFile.kdl');
    const handles = await Promise.all(names.map((name) => putVm(paths, { name, spec: vmSpec({ name, project }) })));
    await Promise.all(handles.map((handle) => registry.add(handle)));
    await writeFile(join(paths.vm('vm-0500'), 'vm.json'), 'damaged');
    const states = await rig.states();
    expect(Object.keys(states)).toEqual(names);
    expect(states).toMatchObject({ 'vm-0000': 'stopped', 'vm-0500': 'damaged', 'vm-0999': 'stopped' });
    expect(await rig.vmctl(['destroy', 'vm-0500', 'vm-0501', '--yes'])).toMatchObject({ exitCode: 0 });
    expect(Object.keys(await rig.states())).toHaveLength(998);
  });
});

describe('programs', () => {
  /** A folder with some of this host's programs, as the whole of PATH. */
  async function pathWith(folder: string, programs: Readonly<Record<string, string | null>>): Promise<string> {
    await mkdir(folder);
    for (const [name, text] of Object.entries(programs)) {
      const place = join(folder, name);
      if (text === null) await symlink(spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim(), place);
      else await writeFile(place, text, { mode: 0o755 });
    }
    return folder;
  }

  async function up(programs: Readonly<Record<string, string | null>>) {
    await using folder = await temporaryDirectory();
    const searchPath = await pathWith(join(folder.path, 'bin'), programs);
    const fixed = { binary: null, extraArguments: [], accelerator: 'tcg', leaseFiles: null } as const;
    await using rig = await Rig.create({
      backend: ({ host }) => new QemuBackend({ ...fixed, hostFile: host, searchPath }),
    });
    await rig.declare({ web: '' });
    vi.stubEnv('PATH', searchPath);
    const result = await rig.vmctl(['up']);
    const rest = await rig.vmctl(['down', '--destroy']);
    return { ...result, rest: rest.exitCode, left: await rig.directories() };
  }

  test('without qemu-img nothing is made, and the package is named', async () => {
    expect(await up({ 'qemu-system-x86_64': null })).toMatchObject({
      exitCode: 4,
      stderr: expect.stringMatching(/error: qemu-img is not installed or not in PATH[^]*hint: .*qemu-utils/),
      rest: 0,
      left: [],
    });
  });

  test('without QEMU nothing is made, and the package is named', async () => {
    expect(await up({ 'qemu-img': null })).toMatchObject({
      exitCode: 4,
      stderr: expect.stringMatching(/error: qemu-system-x86_64 was not found[^]*hint: .*qemu-system-x86/),
      rest: 0,
      left: [],
    });
  });

  test.each([
    'qemu-system-x86_64: -blockdev: invalid option',
    "qemu-system-x86_64: -sandbox on,obsolete=deny: Invalid parameter 'obsolete'",
    "qemu-system-x86_64: -device vmgenid,guid=auto: 'vmgenid' is not a valid device model name",
  ])('a QEMU that is too old (%s) is told of in its words, with what to do, and nothing is left', async (words) => {
    const text = `#!/bin/sh\n[ "$1" = --version ] && echo 'QEMU emulator version 2.5.0' && exit\necho "${words}" >&2\nexit 1\n`;
    const { exitCode, stderr, rest, left } = await up({ 'qemu-img': null, 'qemu-system-x86_64': text });
    expect({ exitCode, rest, left }).toEqual({ exitCode: 1, rest: 0, left: [] });
    expect(stderr).toContain(words);
    expect(stderr).toContain('it may be too old, or miss a part. To see its version');
  });
});

test.each(['1970-01-01T00:00:01Z', '2001-09-09T01:46:40Z', '2106-02-07T06:28:16Z', '9999-12-31T23:59:59Z'])(
  'a clock that jumps to %s and back disturbs no command',
  async (then) => {
    await using rig = await Rig.create();
    await rig.declare({ web: 'cloud-init', db: '' });
    expect(await rig.vmctl(['up', 'web'])).toMatchObject({ exitCode: 0 });
    for (const now of [new Date(then), new Date(), new Date(then)]) {
      vi.useFakeTimers({ toFake: ['Date'], now });
      for (const words of [
        ['up'],
        ['list'],
        ['status', 'web'],
        ['stop', 'web'],
        ['gc'],
        ['image', 'prune'],
        ['image', 'list'],
        ['reload', 'db'],
        ['up'],
        ['destroy', 'db', '--yes'],
        ['doctor'],
      ]) {
        const { exitCode, stderr } = await rig.vmctl(words);
        expect({ words, exitCode, stderr }).toMatchObject({ words, exitCode: 0 });
      }
      expect(await rig.states()).toEqual({ web: 'running' });
      vi.useRealTimers();
    }
    expect(await rig.vmctl(['down', '--destroy'])).toMatchObject({ exitCode: 0 });
    expect(await rig.directories()).toEqual([]);
  },
);
