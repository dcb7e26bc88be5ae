import { describe, expect, test } from 'vitest';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { resolveProject } from '../../src/vmfile/resolve.js';

const PRESETS = { names: [], find: () => undefined };

function findings(body: string, platform: NodeJS.Platform): readonly string[] {
  const { project, diagnostics } = parseVmFile({ path: '/project/VMFile.kdl', text: body });
  const resolved = resolveProject(project, { home: '/home/me', presets: PRESETS, platform });
  return [...diagnostics, ...resolved.diagnostics].map(
    ({ message, hint, span }) => `${message} at ${body.slice(span.start, span.end)}: ${hint ?? ''}`,
  );
}

const vm = (network: string) => `vm "a" { image "d"; ${network} }`;
const USE_VNIC = 'use `network "vnic" name="vmctl0"`, or `network "none"`';

describe('a network that this host does not have', () => {
  test.each([
    [
      'sunos',
      'network "user"',
      `network "user" needs QEMU, and VMs on illumos run on Propolis at network "user": ${USE_VNIC}`,
    ],
    ['sunos', '', `network "user" needs QEMU, and VMs on illumos run on Propolis at "a": ${USE_VNIC}`],
    ['sunos', 'network "tap"', `network "tap" needs a bridge of Linux at network "tap": ${USE_VNIC}`],
    [
      'linux',
      'network "vnic" name="vnic0"',
      'network "vnic" needs Propolis, which runs on illumos at network "vnic" name="vnic0": use `network "user"`',
    ],
  ] as const)('on %s is a mistake: %s', (platform, network, told) => {
    expect(findings(vm(network), platform)).toEqual([told]);
  });

  test('takes its LAN with it, with what illumos has instead', () => {
    expect(findings(vm('network "user" { lan "back" }; ssh'), 'sunos')).toEqual([
      expect.stringContaining('network "user" needs QEMU'),
      '`lan` is a network of QEMU’s own, and VMs on illumos run on Propolis at lan "back": VNICs on one etherstub are a private network: dladm create-etherstub vmctl_lan0',
    ]);
  });

  test.each([
    ['sunos', 'network "vnic" name="vnic0"'],
    ['sunos', 'network "none"'],
    ['linux', 'network "tap"'],
    ['linux', ''],
  ] as const)('is another one than what %s has: %s', (platform, network) => {
    expect(findings(vm(network), platform)).toEqual([]);
  });
});

describe('the name of a VNIC', () => {
  test.each([
    ['vnic_web', 'it does not end with a digit'],
    ['0vnic0', 'it starts with the digit `0`'],
    ['vnic-0', 'it has the character `-`'],
    [`v${'1'.repeat(31)}`, 'it has 32 characters and 31 are the limit'],
  ])('%s is refused by illumos, and so by vmctl: %s', (name, reason) => {
    expect(findings(vm(`network "vnic" name="${name}"`), 'sunos').join('\n')).toContain(reason);
  });

  test.each(['vnic0', 'vmctl.web_1', 'a1'])('%s is one', (name) => {
    expect(findings(vm(`network "vnic" name="${name}"`), 'sunos')).toEqual([]);
  });

  test('belongs to one VM', () => {
    const two = ['a', 'b'].map((name) => `vm "${name}" { image "d"; network "vnic" name="vnic0" }`).join('\n');
    expect(findings(two, 'sunos')).toEqual([
      'two VMs have the VNIC "vnic0" at "vnic0": give every VM a VNIC of its own',
    ]);
  });
});
