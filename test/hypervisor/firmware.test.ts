import { chmod, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findFirmware, requireFirmware } from '../../src/hypervisor/qemu/firmware.js';
import { quiet, temporaryDirectory, vmSpec } from '../support/fixtures.js';
import { checksum, fileOf, openQemuLab } from './lab.js';

/** Bytes of the variables in the two layouts of edk2. */
const LARGE = 540_672;
const SMALL = 131_072;

/** A host that has these files, and where each of them was looked for. */
const host = (files: Readonly<Record<string, number>>) => async (path: string) => files[path] ?? null;

describe('the firmware of a host', () => {
  test.each([
    ['Debian', '/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'],
    ['Debian before 4M, Alpine', '/usr/share/OVMF/OVMF_CODE.fd', '/usr/share/OVMF/OVMF_VARS.fd'],
    ['Fedora', '/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_VARS.fd'],
    ['Arch', '/usr/share/edk2/x64/OVMF_CODE.4m.fd', '/usr/share/edk2/x64/OVMF_VARS.4m.fd'],
    ['older Arch', '/usr/share/edk2-ovmf/x64/OVMF_CODE.fd', '/usr/share/edk2-ovmf/x64/OVMF_VARS.fd'],
    ['openSUSE', '/usr/share/qemu/ovmf-x86_64-4m-code.bin', '/usr/share/qemu/ovmf-x86_64-4m-vars.bin'],
    ['Homebrew', '/opt/homebrew/share/qemu/edk2-x86_64-code.fd', '/opt/homebrew/share/qemu/edk2-i386-vars.fd'],
    ['QEMU from source', '/usr/local/share/qemu/edk2-x86_64-code.fd', '/usr/local/share/qemu/edk2-i386-vars.fd'],
  ])('is found on %s', async (_system, code, variables) => {
    expect(await findFirmware({ fileSize: host({ [code]: 1, [variables]: LARGE }) })).toEqual({ code, variables });
  });

  test('is found beside a QEMU that lives somewhere else, through links', async () => {
    await using directory = await temporaryDirectory();
    const store = join(directory.path, 'store');
    const share = join(store, 'share', 'qemu');
    await mkdir(join(store, 'bin'), { recursive: true });
    await mkdir(share, { recursive: true });
    const binary = join(directory.path, 'qemu-system-x86_64');
    await writeFile(join(store, 'bin', 'qemu'), '');
    await symlink(join(store, 'bin', 'qemu'), binary);
    const code = join(share, 'edk2-x86_64-code.fd');
    const variables = join(share, 'edk2-i386-vars.fd');
    const fileSize = host({ [code]: 1, [variables]: LARGE });
    expect(await findFirmware({ qemuBinary: binary, fileSize })).toEqual({ code, variables });
    expect(await findFirmware({ fileSize })).toBeNull();
  });

  test('is never half of a pair, and never one that enforces Secure Boot', async () => {
    const files = {
      '/usr/share/OVMF/OVMF_VARS_4M.fd': LARGE,
      '/usr/share/OVMF/OVMF_CODE.fd': 1,
      '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd': 1,
      '/usr/share/OVMF/OVMF_VARS_4M.ms.fd': LARGE,
    };
    expect(await findFirmware({ fileSize: host(files) })).toBeNull();
  });

  test('is the one whose variables have the size of those that a VM has already', async () => {
    const fileSize = host({
      '/usr/share/OVMF/OVMF_CODE_4M.fd': 1,
      '/usr/share/OVMF/OVMF_VARS_4M.fd': LARGE,
      '/usr/share/OVMF/OVMF_CODE.fd': 1,
      '/usr/share/OVMF/OVMF_VARS.fd': SMALL,
    });
    expect((await findFirmware({ fileSize }))?.code).toBe('/usr/share/OVMF/OVMF_CODE_4M.fd');
    expect((await findFirmware({ fileSize, variablesBytes: SMALL }))?.code).toBe('/usr/share/OVMF/OVMF_CODE.fd');
    await expect(requireFirmware({ fileSize, variablesBytes: 7 })).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: 'no UEFI firmware for this VM, whose UEFI variables have 7 bytes, was found on this host',
    });
  });

  test('that is missing is an error with the package to install', async () => {
    await expect(requireFirmware({ fileSize: host({}) })).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: 'no UEFI firmware was found on this host',
      hint: expect.stringMatching(/"apt-get install ovmf" .*"dnf install edk2-ovmf" .*"pacman -S edk2-ovmf"/),
    });
  });
});

describe('a VM with UEFI', () => {
  test('has variables of its own, which the template and other VMs never see', async () => {
    await using lab = await openQemuLab();
    await lab.backend.checkHost(quiet, vmSpec({ firmware: 'uefi' }));
    const template = (await requireFirmware()).variables;
    const before = await checksum(template);
    const handle = await lab.prepare({ firmware: 'uefi' });
    const variables = fileOf(handle, 'firmwareVariables');
    expect(await checksum(variables)).toBe(before);
    expect((await stat(variables)).mode & 0o777).toBe(0o600);

    const vm = await lab.backend.start({ state: 'stopped', handle }, quiet);
    expect(vm.state).toBe('running');
    // The firmware writes its defaults as soon as it runs.
    await expect.poll(() => checksum(variables), { timeout: 30_000 }).not.toBe(before);
    await lab.backend.stop(vm, { graceMs: 0 }, quiet);
    const kept = await readFile(variables);
    await lab.backend.start({ state: 'stopped', handle }, quiet);
    expect((await readFile(variables)).length).toBe(kept.length);
    expect(await checksum(template)).toBe(before);
    await lab.backend.destroy(handle, quiet);
    expect(await lab.left()).toEqual([]);
  });

  test('whose variables no firmware of this host reads is not started', async () => {
    await using lab = await openQemuLab();
    const handle = await lab.prepare({ firmware: 'uefi' });
    await chmod(fileOf(handle, 'firmwareVariables'), 0o600);
    await writeFile(fileOf(handle, 'firmwareVariables'), 'short');
    await expect(lab.backend.start({ state: 'stopped', handle }, quiet)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
    });
    expect(await lab.processes(handle)).toEqual([]);
  });
});
