import { basename, dirname } from 'node:path';
import { describe, expect, test } from 'vitest';
import { VM_FILES, defaultStateRoot, statePaths } from '../src/paths.js';

describe('the state directory', () => {
  test.each([
    ['is in XDG_DATA_HOME', { XDG_DATA_HOME: '/data' }, '/data/vmctl'],
    ['is in ~/.local/share where that is not set', {}, '/home/me/.local/share/vmctl'],
    ['is in ~/.local/share where that is undefined', { XDG_DATA_HOME: undefined }, '/home/me/.local/share/vmctl'],
    ['is in ~/.local/share where that is empty', { XDG_DATA_HOME: '' }, '/home/me/.local/share/vmctl'],
    ['is in ~/.local/share where that is relative', { XDG_DATA_HOME: 'data' }, '/home/me/.local/share/vmctl'],
    ['is in ~/.local/share where that has a tilde', { XDG_DATA_HOME: '~/data' }, '/home/me/.local/share/vmctl'],
    ['has no doubled slashes', { XDG_DATA_HOME: '/data//' }, '/data/vmctl'],
  ])('%s', (_what, environment, expected) => {
    expect(defaultStateRoot(environment, '/home/me')).toBe(expected);
  });

  test('has the files of the original system', () => {
    expect(statePaths('/data/vmctl')).toMatchObject({
      root: '/data/vmctl',
      registry: '/data/vmctl/vms.json',
      images: '/data/vmctl/images',
      vms: '/data/vmctl/vms',
    });
    expect(statePaths('/data/vmctl').vm('web')).toBe('/data/vmctl/vms/web');
    expect(VM_FILES).toMatchObject({
      overlay: 'overlay.qcow2',
      seed: 'seed.iso',
      qmpSocket: 'qmp.sock',
      consoleSocket: 'console.sock',
      consoleLog: 'console.log',
      provisionLog: 'provision.log',
      privateKey: 'id_ed25519_generated',
      publicKey: 'id_ed25519_generated.pub',
      pidfile: 'pidfile',
    });
  });

  test('has one name for each file of a VM, and none that QEMU’s options would have to escape', () => {
    const names = Object.values(VM_FILES);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[\w.-]+$/);
  });

  test('keeps VMs that are being made beside the others, under a name that no VM can have', () => {
    const paths = statePaths('/data/vmctl');
    expect(dirname(paths.vmStaging('web'))).toBe(paths.vms);
    expect(basename(paths.vmStaging('web'))).toMatch(/^\./);
  });

  test('has locks for each VM and its console and one for the registry, which are never the same', () => {
    const paths = statePaths('/data/vmctl');
    const names = ['web', 'db', 'registry', 'vm-web', 'console-web'];
    const locks = names.flatMap((name) => [paths.vmLock(name), paths.consoleLock(name)]);
    expect(new Set([...locks, paths.registryLock]).size).toBe(11);
    for (const lock of [...locks, paths.registryLock]) expect(dirname(lock)).toBe(paths.locks);
  });
});
