import { describe, expect, test } from 'vitest';
import { NoopBackend } from '../../src/hypervisor/noop.js';
import { RouterHypervisor, backendOf, createRouter } from '../../src/hypervisor/router.js';
import { quiet, resolvedVm, temporaryDirectory, vmHandle } from '../support/fixtures.js';
import { openNoopLab } from './lab.js';

const QEMU = {
  binary: '/nonexistent/qemu',
  extraArguments: [],
  accelerator: 'tcg',
  hostFile: '/nonexistent/host.json',
  searchPath: '',
} as const;

const PROPOLIS = { locks: '/nonexistent/locks' };

const noop = new NoopBackend();

describe('new VMs', () => {
  test.each([
    ['linux', 'qemu'],
    ['darwin', 'qemu'],
    ['sunos', 'propolis'],
  ] as const)('are made on %s by %s', (platform, kind) => {
    expect(backendOf(platform)).toBe(kind);
    expect(createRouter({ qemu: QEMU, propolis: PROPOLIS, platform }).kind).toBe(kind);
  });

  test('are made by the backend that was asked for, whatever the platform', () => {
    expect(createRouter({ qemu: QEMU, propolis: PROPOLIS, platform: 'linux', backend: 'noop' }).kind).toBe('noop');
    expect(createRouter({ qemu: QEMU, propolis: PROPOLIS, platform: 'win32', backend: 'noop' }).kind).toBe('noop');
  });

  test('cannot be made on a platform without a backend, and the others are named', () => {
    expect(() => createRouter({ qemu: QEMU, propolis: PROPOLIS, platform: 'win32' })).toThrow(
      expect.objectContaining({
        code: 'HOST_UNSUPPORTED',
        message: 'vmctl has no backend for win32',
        hint: 'It runs on Linux and macOS with QEMU, and on illumos with Propolis.',
      }),
    );
  });

  test('are prepared by the preferred backend', async () => {
    await using lab = await openNoopLab();
    const router = new RouterHypervisor([noop], 'noop');
    const places = { directory: lab.paths.vm('web'), staging: lab.paths.vmStaging('web') };
    await router.checkHost(quiet);
    const handle = await router.prepare(resolvedVm(lab.image), places, quiet);
    expect(handle.backend).toBe('noop');
    expect(router.capabilities).toBe(noop.capabilities);
  });
});

describe('a VM that exists', () => {
  test('is served by the backend that made it, whatever is preferred', async () => {
    await using lab = await openNoopLab();
    const router = createRouter({ qemu: QEMU, propolis: PROPOLIS, platform: 'linux' });
    const handle = await lab.prepare();
    const running = await router.start({ state: 'stopped', handle }, quiet);
    const suspended = await router.suspend(running, quiet);
    expect(await router.observe(handle)).toEqual(suspended);
    expect(await router.resume(suspended, quiet)).toEqual(running);
    expect(await router.stop(running, { graceMs: 0 }, quiet)).toBe('guest');
    expect(router.console(handle)).toEqual({ kind: 'none' });
    expect(router.capabilitiesOf(handle).guestAccess.supported).toBe(false);
    expect(router.capabilities.guestAccess.supported).toBe(true);
    await router.destroy(handle, quiet);
    expect(await lab.left()).toEqual([]);
  });

  test('is removed by the backend that its remains name', async () => {
    await using lab = await openNoopLab();
    const { name, directory } = await lab.prepare();
    await createRouter({ qemu: QEMU, propolis: PROPOLIS, platform: 'linux' }).discard({
      name,
      directory,
      backend: 'noop',
    });
    expect(await lab.left()).toEqual([]);
  });

  test('of a backend that this vmctl does not have is an error that names it', async () => {
    await using directory = await temporaryDirectory();
    const router = new RouterHypervisor([noop], 'noop');
    const handle = vmHandle({ backend: 'qemu', directory: directory.path });
    const refusal = expect.objectContaining({
      code: 'HOST_UNSUPPORTED',
      message: 'this version of vmctl has no qemu backend for this host',
      fields: { backend: 'qemu' },
    });
    expect(() => router.observe(handle)).toThrow(refusal);
    expect(() => router.destroy(handle, quiet)).toThrow(refusal);
    expect(() => router.console(handle)).toThrow(refusal);
    expect(() => new RouterHypervisor([noop], 'propolis').capabilities).toThrow('no propolis backend');
  });
});
