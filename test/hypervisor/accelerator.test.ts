import { chmod, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { type AcceleratorOptions, chooseAccelerator, probeSector } from '../../src/hypervisor/qemu/accelerator.js';
import { type CommandRunner, runCommand } from '../../src/util/exec.js';
import { bootId } from '../../src/util/process.js';
import { type TemporaryDirectory, temporaryDirectory, withoutPrivileges } from '../support/fixtures.js';
import { qemuBinary } from './real-qemu.js';

let directory: TemporaryDirectory;
/** The folder of each probe that was run. */
let probes: string[];

beforeEach(async () => {
  directory = await temporaryDirectory();
  probes = [];
  await writeFile(path('kvm'), '');
  await writeFile(path('qemu'), 'a QEMU');
});

afterEach(() => directory[Symbol.asyncDispose]());

const path = (name: string) => join(directory.path, name);

/** A QEMU that ends with this code; null for one that has to be ended at the deadline. */
const endsWith =
  (exitCode: number | null): CommandRunner =>
  async (_program, _words, options) => {
    probes.push(options?.cwd ?? '');
    if (exitCode === 0) return { stdout: '', stderr: '' };
    throw new VmctlError('COMMAND_FAILED', 'qemu failed', { fields: { exitCode } });
  };

function choose(changes: Partial<AcceleratorOptions> = {}) {
  return chooseAccelerator({
    wish: 'auto',
    binary: path('qemu'),
    cacheFile: path('host.json'),
    kvmDevice: path('kvm'),
    platform: 'linux',
    run: endsWith(33),
    ...changes,
  });
}

const BROKEN = () => `guests do not run on ${path('kvm')} here: a probe guest did not finish`;

describe('where /dev/kvm can be opened', () => {
  test('guests run on KVM when the probe guest has run on it', async () => {
    expect(await choose()).toEqual({ accelerator: 'kvm', reason: null });
  });

  test.each([
    ['ends with another code', 1],
    ['ends as if all were well', 0],
    ['does not finish in time', null],
  ])('guests are emulated when the probe guest %s, and the reason is told', async (_what, code) => {
    expect(await choose({ run: endsWith(code) })).toEqual({ accelerator: 'tcg', reason: BROKEN() });
  });

  test('the probe is a boot sector that runs under KVM with a deadline, and nothing is left of it', async () => {
    const run: CommandRunner = async (program, words, options) => {
      expect(program).toBe(path('qemu'));
      expect(words.join(' ')).toContain('-accel kvm -cpu host');
      expect(options?.timeoutMs).toBe(4_000);
      expect((await readFile(join(options?.cwd ?? '', 'boot.img'))).equals(probeSector())).toBe(true);
      return endsWith(33)(program, words, options);
    };
    expect((await choose({ run })).accelerator).toBe('kvm');
    await expect(readdir(probes[0] ?? '')).rejects.toThrow('ENOENT');
  });

  test('a probe that is cancelled or cannot be run decides nothing', async () => {
    for (const code of ['ABORTED', 'HOST_UNSUPPORTED'] as const) {
      const run: CommandRunner = () => Promise.reject(new VmctlError(code, 'no'));
      await expect(choose({ run })).rejects.toMatchObject({ code });
    }
    expect(await choose()).toEqual({ accelerator: 'kvm', reason: null });
  });
});

describe('what the probe found', () => {
  test.each([33, 1])('is remembered (exit code %d)', async (code) => {
    const first = await choose({ run: endsWith(code) });
    expect(await choose({ run: endsWith(7) })).toEqual(first);
    expect(probes).toHaveLength(1);
  });

  test('is found out again after an hour where KVM did not work, because the host may only have been busy', async () => {
    const later = () => Date.now() + 3_600_001;
    await choose({ run: endsWith(1) });
    expect((await choose({ run: endsWith(33), now: later })).accelerator).toBe('kvm');
    expect((await choose({ run: endsWith(1), now: () => later() + 3_600_001 })).accelerator).toBe('kvm');
    expect(probes).toHaveLength(2);
  });

  test('is found out again where the clock was put back since', async () => {
    await choose({ run: endsWith(1), now: () => Date.now() + 10 * 365 * 86_400_000 });
    expect((await choose({ run: endsWith(33) })).accelerator).toBe('kvm');
    expect(probes).toHaveLength(2);
  });

  test('is found out once by all who ask at the same time', async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => choose()));
    expect(new Set(answers.map(({ accelerator }) => accelerator))).toEqual(new Set(['kvm']));
    expect(probes).toHaveLength(1);
  });

  test('is worthless for another QEMU, at the same path or another', async () => {
    await choose();
    await writeFile(path('qemu'), 'a newer QEMU');
    expect((await choose({ run: endsWith(1) })).accelerator).toBe('tcg');
    await writeFile(path('other'), 'a newer QEMU');
    expect((await choose({ binary: path('other') })).accelerator).toBe('kvm');
    expect(probes).toHaveLength(3);
  });

  test('is worthless after a reboot, or when it cannot be read', async () => {
    await choose();
    const memory = await readFile(path('host.json'), 'utf8');
    for (const text of [memory.replace(await bootId(), 'an-earlier-boot'), '', '{"key":7}']) {
      await writeFile(path('host.json'), text);
      expect((await choose({ run: endsWith(1) })).accelerator).toBe('tcg');
    }
    expect(probes).toHaveLength(4);
  });
});

describe('where /dev/kvm cannot be opened', () => {
  test('a device that does not exist is the reason', async () => {
    expect(await choose({ kvmDevice: path('none') })).toEqual({
      accelerator: 'tcg',
      reason: `${path('none')} does not exist (no hardware virtualisation, or the kvm module is not loaded)`,
    });
  });

  test('a missing permission is the reason', async () => {
    await chmod(directory.path, 0o755);
    await chmod(path('kvm'), 0o400);
    expect(await withoutPrivileges(() => choose())).toEqual({
      accelerator: 'tcg',
      reason: `${path('kvm')} may not be used by this user (EACCES)`,
    });
  });

  test('anything else is the reason in the system’s words', async () => {
    expect((await choose({ kvmDevice: directory.path })).reason).toMatch('cannot be opened: EISDIR');
  });

  test('nothing is probed', async () => {
    await choose({ kvmDevice: path('none') });
    expect(probes).toEqual([]);
  });
});

describe('an accelerator that was asked for', () => {
  test('is KVM where guests run on it', async () => {
    expect(await choose({ wish: 'kvm' })).toEqual({ accelerator: 'kvm', reason: null });
  });

  test('is an error when it is KVM and guests do not run on it', async () => {
    await expect(choose({ wish: 'kvm', run: endsWith(1) })).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: `KVM was asked for, but ${BROKEN()}`,
      hint: expect.stringContaining('"tcg"'),
    });
    await expect(choose({ wish: 'kvm', platform: 'darwin' })).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: 'KVM was asked for, but KVM does not exist on darwin',
    });
  });

  test('is taken without a probe when it is not KVM', async () => {
    expect(await choose({ wish: 'tcg' })).toEqual({ accelerator: 'tcg', reason: null });
    expect(await choose({ wish: 'hvf' })).toEqual({ accelerator: 'hvf', reason: null });
    expect(await choose({ platform: 'darwin' })).toEqual({ accelerator: 'hvf', reason: null });
    expect(probes).toEqual([]);
  });
});

test('the probe guest really runs and ends with the code that is looked for, here by emulation', async () => {
  const codes: unknown[] = [];
  const run: CommandRunner = async (program, words, options) => {
    const emulated = words.map((word) => ({ kvm: 'tcg', host: 'max' })[word] ?? word);
    try {
      return await runCommand(program, emulated, { ...options, timeoutMs: 20_000 });
    } catch (error) {
      codes.push(error instanceof VmctlError ? (error.fields['exitCode'] ?? error.message) : error);
      throw error;
    }
  };
  expect(await choose({ run, binary: await qemuBinary() })).toEqual({ accelerator: 'kvm', reason: null });
  expect(codes).toEqual([33]);
});
