import { describe, expect, test } from 'vitest';
import type { BackendKind } from '../../src/model/vm.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { usualBackend } from '../../src/vmfile/host-networks.js';
import { resolveProject } from '../../src/vmfile/resolve.js';

const PRESETS = { names: [], find: () => undefined };

function findings(body: string, backend: BackendKind): readonly string[] {
  const { project, diagnostics } = parseVmFile({ path: '/project/VMFile.kdl', text: body });
  const resolved = resolveProject(project, { home: '/home/me', presets: PRESETS, backend });
  return [...diagnostics, ...resolved.diagnostics].map(
    ({ message, hint, span }) => `${message} at ${body.slice(span.start, span.end)}: ${hint ?? ''}`,
  );
}

const vm = (network: string) => `vm "a" { image "d"; ${network} }`;
const USE_VNIC = 'use `network "vnic" name="vmctl0"`, or `network "none"`';

describe('a network that a VM cannot be given', () => {
  test.each([
    [
      'propolis',
      'network "user"',
      `network "user" needs QEMU, and VMs on illumos run on Propolis at network "user": ${USE_VNIC}`,
    ],
    ['propolis', '', `network "user" needs QEMU, and VMs on illumos run on Propolis at "a": ${USE_VNIC}`],
    ['propolis', 'network "tap"', `network "tap" needs a bridge of Linux at network "tap": ${USE_VNIC}`],
    [
      'qemu',
      'network "vnic" name="vnic0"',
      'network "vnic" needs Propolis, which runs on illumos at network "vnic" name="vnic0": use `network "user"`',
    ],
  ] as const)('with %s is a mistake: %s', (backend, network, told) => {
    expect(findings(vm(network), backend)).toEqual([told]);
  });

  test('takes its LAN with it, with what illumos has instead', () => {
    expect(findings(vm('network "user" { lan "back" }; ssh'), 'propolis')).toEqual([
      expect.stringContaining('network "user" needs QEMU'),
      '`lan` is a network of QEMU’s own, and VMs on illumos run on Propolis at lan "back": VMs whose VNICs stand on one etherstub share a network: name it in the setting propolis.link',
    ]);
  });

  test.each([
    ['propolis', 'network "vnic" name="vnic0"'],
    ['propolis', 'network "none"'],
    ['qemu', 'network "tap"'],
    ['qemu', ''],
    ['noop', 'network "vnic" name="vnic0"'],
    ['noop', 'network "tap"'],
    ['noop', ''],
  ] as const)('is another one than what %s has: %s', (backend, network) => {
    expect(findings(vm(network), backend)).toEqual([]);
  });

  test('is judged by what illumos has where nobody says what runs the VMs, and vmctl runs there', () => {
    expect([usualBackend('sunos'), usualBackend('linux'), usualBackend('darwin')]).toEqual([
      'propolis',
      'qemu',
      'qemu',
    ]);
  });
});

describe('the name of a VNIC', () => {
  test.each([
    ['vnic_web', 'it does not end with a digit'],
    ['0vnic0', 'it starts with the digit `0`'],
    ['vnic-0', 'it has the character `-`'],
    [`v${'1'.repeat(31)}`, 'it has 32 characters and 31 are the limit'],
  ])('%s is refused by illumos, and so by vmctl: %s', (name, reason) => {
    expect(findings(vm(`network "vnic" name="${name}"`), 'propolis').join('\n')).toContain(reason);
  });

  test.each(['vnic0', 'vmctl.web_1', 'a1'])('%s is one', (name) => {
    expect(findings(vm(`network "vnic" name="${name}"`), 'propolis')).toEqual([]);
  });

  test('belongs to one VM', () => {
    const two = ['a', 'b'].map((name) => `vm "${name}" { image "d"; network "vnic" name="vnic0" }`).join('\n');
    expect(findings(two, 'propolis')).toEqual([
      'two VMs have the VNIC "vnic0" at "vnic0": give every VM a VNIC of its own',
    ]);
  });
});
