import { describe, expect, test } from 'vitest';
import type { AcceleratorFacts, BackendFacts } from '../../src/hypervisor/hypervisor.js';
import { checkHost } from '../../tasks/host-checks.js';
import type { HostFacts, KvmDevice, ProjectFacts } from '../../tasks/host-facts.js';

const GIB = 1024 ** 3;

const BACKEND: BackendFacts = {
  program: { found: true, path: '/usr/bin/qemu-system-x86_64', version: '8.2.2' },
  accelerator: { accelerator: 'kvm', reason: null, kvm: 'works' },
  firmware: { path: '/usr/share/OVMF/OVMF_CODE_4M.fd' },
};

const KVM: KvmDevice = { group: 'kvm', joined: false, processor: 'vmx', inContainer: false };

/** A host on which all is well. */
const WELL: HostFacts = {
  node: '20.19.0',
  platform: 'linux',
  architecture: 'x64',
  system: { family: 'debian', isRoot: false },
  settingsProblem: null,
  qemuBinary: null,
  backend: { kind: 'qemu', facts: BACKEND },
  kvm: KVM,
  qemuImg: { found: true, path: 'qemu-img', version: '8.2.2' },
  ssh: { found: true, path: 'ssh', version: 'OpenSSH_9.6p1' },
  missingDecompressors: [],
  state: { root: '/home/me/.local/share/vmctl', problem: null, mode: 0o700, freeBytes: 100 * GIB, frozenBytes: 0 },
  availableMemory: 8 * GIB,
  project: { kind: 'none', folder: '/work' },
  leftovers: { garbage: 0, garbageBytes: 0, troubles: [], processesKnown: true },
};

const PROJECT: ProjectFacts & { kind: 'valid' } = {
  kind: 'valid',
  path: '/project/VMFile.kdl',
  vms: 2,
  newDiskBytes: 0,
  newDisksOfImageSize: 0,
  imagesToDownload: 0,
  bridges: [],
  uefiVms: 0,
  memoryMib: 0,
};

/** The checks of that name, as `result: found` and the next steps below. */
function told(id: string, facts: Partial<HostFacts>): readonly string[] {
  const checks = checkHost({ ...WELL, ...facts }).filter((check) => check.id === id);
  return checks.flatMap(({ result, found, next }) => [`${result}: ${found}`, ...next]);
}

const accelerated = (accelerator: AcceleratorFacts | null): Partial<HostFacts> => ({
  backend: { kind: 'qemu', facts: { ...BACKEND, accelerator } },
});

const withoutQemu = (problem: string): Partial<HostFacts> => ({
  backend: {
    kind: 'qemu',
    facts: { program: { found: false, name: 'qemu-system-x86_64', problem }, accelerator: null, firmware: null },
  },
});

test('the space that frozen VMs take is told, with the way to have it back where there is none', () => {
  const state = { ...WELL.state, frozenBytes: 3 * GIB };
  expect(told('space', { state })).toEqual(['ok: 100 GiB free; frozen VMs take 3 GiB']);
  expect(told('space', { state: { ...state, freeBytes: GIB / 64 } })).toEqual([
    expect.stringMatching(/^problem: only .*; frozen VMs take 3 GiB$/),
    'vmctl gc --dry-run --images-older-than 30d',
    'vmctl warm prune --dry-run --older-than 7d',
  ]);
});

test('on a host on which all is well everything is ok', () => {
  expect(checkHost(WELL).map(({ id, result, found, next }) => [id, result, found, ...next])).toEqual([
    ['node', 'ok', '20.19.0'],
    ['backend', 'ok', 'qemu (linux, x64)'],
    ['settings', 'ok', 'valid'],
    ['qemu', 'ok', '8.2.2, /usr/bin/qemu-system-x86_64'],
    ['accelerator', 'ok', 'KVM'],
    ['firmware', 'ok', '/usr/share/OVMF/OVMF_CODE_4M.fd'],
    ['qemu-img', 'ok', '8.2.2'],
    ['ssh', 'ok', 'OpenSSH_9.6p1'],
    ['decompression', 'ok', 'gzip, zstd, xz, bzip2'],
    ['state', 'ok', '/home/me/.local/share/vmctl'],
    ['space', 'ok', '100 GiB free'],
    ['memory', 'ok', '8 GiB available'],
    ['vmfile', 'unchecked', 'none in /work'],
    ['leftovers', 'ok', 'none'],
  ]);
});

describe('the programs', () => {
  test.each([
    ['20.18.3', ['problem: 20.18.3 is older than 20.19.0', 'Install Node.js 20.19.0 or newer: https://nodejs.org.']],
    ['24.0.0', ['ok: 24.0.0']],
  ])('Node.js %s', (node, expected) => {
    expect(told('node', { node })).toEqual(expected);
  });

  test.each([
    ['debian', 'sudo apt-get install qemu-system-x86 qemu-utils'],
    ['fedora', 'sudo dnf install qemu-system-x86-core qemu-img'],
    ['arch', 'sudo pacman -S qemu-base qemu-img'],
    ['alpine', 'sudo apk add qemu-system-x86_64 qemu-img'],
    ['macos', 'brew install qemu'],
    ['unknown', "Install QEMU for x86-64 (qemu-system-x86_64), qemu-img with your system's package manager."],
  ] as const)('without QEMU on %s', (family, step) => {
    const facts = { ...withoutQemu('qemu-system-x86_64 was not found'), system: { family, isRoot: false } };
    expect(told('qemu', facts)).toEqual(['problem: qemu-system-x86_64 was not found', step]);
    expect(told('accelerator', facts)).toEqual([]);
  });

  test('root needs no sudo', () => {
    const facts = { ...withoutQemu('gone'), system: { family: 'debian', isRoot: true } } as const;
    expect(told('qemu', facts)).toEqual(['problem: gone', 'apt-get install qemu-system-x86 qemu-utils']);
  });

  test('where another QEMU is set, installing one is no help', () => {
    const facts = { ...withoutQemu('/opt/qemu was not found'), qemuBinary: '/opt/qemu' };
    expect(told('qemu', facts)).toEqual(['problem: /opt/qemu was not found', 'Check the setting qemu.binary.']);
  });

  test('an old QEMU is a warning', () => {
    const program = { found: true, path: '/q', version: '6.2.0' } as const;
    expect(told('qemu', { backend: { kind: 'qemu', facts: { ...BACKEND, program } } })).toEqual([
      'warning: 6.2.0, /q: older than 7.2, the oldest that vmctl is tested with',
      'Get a newer QEMU, such as that of a newer release of this system, if something fails.',
    ]);
  });

  test.each([
    ['7.2.0', 'ok: 7.2.0, /q'],
    ['10.0.2', 'ok: 10.0.2, /q'],
  ])('QEMU %s is new enough', (version, expected) => {
    const program = { found: true, path: '/q', version } as const;
    expect(told('qemu', { backend: { kind: 'qemu', facts: { ...BACKEND, program } } })).toEqual([expected]);
  });

  test('a missing qemu-img is a problem, a missing ssh is none', () => {
    const missing = (name: string) =>
      ({ found: false, name, problem: `${name} is not installed or not in PATH` }) as const;
    expect(told('qemu-img', { qemuImg: missing('qemu-img') })).toEqual([
      'problem: qemu-img is not installed or not in PATH; needed for every disk',
      'sudo apt-get install qemu-utils',
    ]);
    expect(told('ssh', { ssh: missing('ssh') })).toEqual([
      'warning: ssh is not installed or not in PATH; needed by vmctl ssh',
      'sudo apt-get install openssh-client',
    ]);
  });

  test('missing UEFI firmware is a problem only for a VMFile that wants it', () => {
    const backend = { kind: 'qemu', facts: { ...BACKEND, firmware: { path: null } } };
    expect(told('firmware', { backend })).toEqual([
      'unchecked: none; only firmware "uefi" needs it',
      'sudo apt-get install ovmf',
    ]);
    expect(told('firmware', { backend, project: { ...PROJECT, uefiVms: 1 } })).toEqual([
      'problem: none, and 1 VM of the VMFile cannot start without',
      'sudo apt-get install ovmf',
    ]);
  });

  test('missing tools for compressed images are a warning', () => {
    expect(told('decompression', { missingDecompressors: ['zstd', 'xz'] })).toEqual([
      'warning: without zstd, xz no image compressed with them can be fetched',
      'sudo apt-get install zstd xz-utils',
    ]);
  });

  test('on illumos everything that Propolis needs is looked at, and QEMU is not', () => {
    const need = { id: 'pool', title: 'ZFS pool', found: 'rpool', problem: null, next: 'zpool list' };
    const missing = { ...need, id: 'bootrom', title: 'bootrom', problem: 'there is no bootrom /x', next: 'Name one.' };
    const facts = (program: BackendFacts['program']): Partial<HostFacts> => ({
      platform: 'sunos',
      backend: { kind: 'propolis', facts: { program, accelerator: null, firmware: null, needs: [need, missing] } },
    });
    const found = facts({ found: true, path: 'propolis-server', version: '0.1.0' });
    expect(told('propolis', found)).toEqual(['ok: 0.1.0, propolis-server']);
    expect(told('pool', found)).toEqual(['ok: rpool']);
    expect(told('bootrom', found)).toEqual(['problem: there is no bootrom /x', 'Name one.']);
    expect(told('qemu', found)).toEqual([]);
    const problem = 'propolis-server is not installed or not in PATH';
    expect(told('propolis', facts({ found: false, name: 'propolis-server', problem }))).toEqual([
      `problem: ${problem}`,
      expect.stringContaining('propolis.binary'),
    ]);
  });

  test('a platform without a backend, and a wrong setting, are problems', () => {
    expect(told('backend', { backend: { problem: 'no propolis here' }, platform: 'sunos' })).toEqual([
      'problem: no propolis here (sunos, x64)',
    ]);
    expect(told('settings', { settingsProblem: { message: 'unknown key "x"', hint: 'The keys are: y.' } })).toEqual([
      'problem: unknown key "x"',
      'The keys are: y.',
    ]);
  });
});

describe('the accelerator', () => {
  const tcg = (kvm: AcceleratorFacts['kvm'], reason: string) => accelerated({ accelerator: 'tcg', reason, kvm });
  const slow = (reason: string) => `warning: software emulation, several times slower: ${reason}`;
  const DENIED = '/dev/kvm may not be used by this user (EACCES)';
  const denied = slow(DENIED);
  const AT_ONCE = 'sudo setfacl -m "u:$USER:rw" /dev/kvm';

  test.each<[string, Partial<KvmDevice>, readonly string[]]>([
    [
      'the device is the group kvm’s',
      {},
      ['sudo usermod -aG kvm "$USER"', 'Then log out and in again; or, until the next restart:', AT_ONCE],
    ],
    [
      'this session began before the user joined the group',
      { joined: true },
      ['Log out and in again: you are in the group kvm, and this session is not.'],
    ],
    ['no group may use the device', { group: null }, [AT_ONCE]],
  ])('is slow where %s', (_what, kvm, next) => {
    expect(told('accelerator', { ...tcg('forbidden', DENIED), kvm: { ...KVM, ...kvm } })).toEqual([denied, ...next]);
  });

  test.each<[string, Partial<KvmDevice>, string]>([
    ['Intel processor', {}, 'sudo modprobe kvm_intel'],
    ['AMD processor', { processor: 'svm' }, 'sudo modprobe kvm_amd'],
    [
      'processor without virtualisation',
      { processor: null },
      'Turn on virtualisation (VT-x, AMD-V) in the firmware settings; in a virtual machine, nested virtualisation.',
    ],
    ['container', { inContainer: true }, 'Give the container the device: --device /dev/kvm'],
  ])('is slow where there is no device, with an %s', (_what, kvm, next) => {
    const facts = { ...tcg('absent', '/dev/kvm does not exist'), kvm: { ...KVM, ...kvm } };
    expect(told('accelerator', facts)).toEqual([slow('/dev/kvm does not exist'), next]);
  });

  test('is slow where guests do not run on KVM', () => {
    expect(told('accelerator', tcg('broken', 'a probe guest did not finish'))).toEqual([
      slow('a probe guest did not finish'),
      'In a virtual machine, have nested virtualisation turned on by its host; everything works without, slower.',
    ]);
  });

  test('that was demanded and cannot be had is a problem', () => {
    expect(told('accelerator', accelerated({ problem: '/dev/kvm does not exist', kvm: 'absent' }))).toEqual([
      'problem: /dev/kvm does not exist',
      'sudo modprobe kvm_intel',
      'Or set the accelerator to "auto", which falls back to software emulation.',
    ]);
  });

  test.each<['tcg' | 'hvf', string]>([
    ['tcg', 'ok: software emulation, as it is set'],
    ['hvf', 'ok: HVF'],
  ])('%s that was chosen is well', (accelerator, expected) => {
    expect(told('accelerator', accelerated({ accelerator, reason: null, kvm: null }))).toEqual([expected]);
  });
});

describe('the state directory', () => {
  const state = (more: Partial<HostFacts['state']>) => ({ state: { ...WELL.state, root: '/my data/vmctl', ...more } });

  test.each<[string, Partial<HostFacts['state']>, readonly string[]]>([
    ['does not exist yet', { mode: null }, ['ok: /my data/vmctl (made when it is needed)']],
    [
      'is open to others',
      { mode: 0o755 },
      ['warning: /my data/vmctl holds private keys and is open to others (mode 0755)', "chmod 700 '/my data/vmctl'"],
    ],
    [
      'cannot be written',
      { problem: '/my data cannot be written: EROFS' },
      [
        'problem: /my data cannot be written: EROFS',
        'Make /my data/vmctl writable, or set XDG_DATA_HOME to another folder.',
      ],
    ],
  ])('that %s', (_what, more, expected) => {
    expect(told('state', state(more))).toEqual(expected);
  });

  const FREE_SOME = 'vmctl gc --dry-run --images-older-than 30d';

  test.each<[string, number | null, Partial<typeof PROJECT>, readonly string[]]>([
    ['unknown', null, {}, ['unchecked: the file system does not tell']],
    ['none', 1024, {}, ['problem: only 1 KiB free', FREE_SOME]],
    ['enough', 30 * GIB, { newDiskBytes: 20 * GIB }, ["ok: 30 GiB free; the VMFile's new disks may grow to 20 GiB"]],
    [
      'little',
      10 * GIB,
      { newDiskBytes: 20 * GIB, newDisksOfImageSize: 1, imagesToDownload: 2 },
      [
        "warning: 10 GiB free; the VMFile's new disks may grow to 20 GiB; 1 new disk of the image's size; 2 images to download, of unknown size",
        FREE_SOME,
      ],
    ],
  ])('with space: %s', (_what, freeBytes, project, expected) => {
    expect(told('space', { ...state({ freeBytes }), project: { ...PROJECT, ...project } })).toEqual(expected);
  });

  test('has leftovers of killed processes', () => {
    const troubles = [{ what: 'a QEMU (pid 7) still runs', next: 'kill 7' }];
    expect(
      told('leftovers', { leftovers: { garbage: 2, garbageBytes: 3 * GIB, troubles, processesKnown: true } }),
    ).toEqual([
      'warning: a QEMU (pid 7) still runs',
      'kill 7',
      'warning: 2 things left by killed processes, 3 GiB',
      'vmctl gc --dry-run',
    ]);
    expect(
      told('leftovers', { leftovers: { garbage: 0, garbageBytes: 0, troubles: [], processesKnown: false } }),
    ).toEqual(['unchecked: none; which processes run is not known here']);
    expect(told('leftovers', { leftovers: { problem: 'EACCES' } })).toEqual(['warning: EACCES']);
  });
});

describe('the VMFile', () => {
  test('that wants a bridge which is not there is a problem', () => {
    const problem = { message: 'this host has no bridge "br7"', hint: 'Make one: …' };
    const bridges = [
      { name: 'br0', problem: null },
      { name: 'br7', problem },
    ];
    expect(told('network', { project: { ...PROJECT, bridges } })).toEqual([
      'ok: there',
      'problem: this host has no bridge "br7"',
      'Make one: …',
    ]);
  });

  test.each<[string, ProjectFacts, readonly string[]]>([
    ['is valid', PROJECT, ['ok: /project/VMFile.kdl: 2 VMs']],
    [
      'has mistakes',
      { kind: 'invalid', path: '/project/VMFile.kdl', mistakes: 1 },
      ['warning: /project/VMFile.kdl has 1 mistake', 'vmctl validate'],
    ],
    ['cannot be read', { kind: 'unreadable', problem: 'no such file' }, ['warning: no such file']],
  ])('%s', (_what, project, expected) => {
    expect(told('vmfile', { project })).toEqual(expected);
  });

  test('wants more memory than there is, or not', () => {
    const wants = (memoryMib: number) => ({ project: { ...PROJECT, memoryMib } });
    expect(told('memory', wants(4096))).toEqual([
      'ok: 8 GiB available; the VMs of the VMFile that do not run yet want 4 GiB',
    ]);
    expect(told('memory', wants(16_384))).toEqual([
      'warning: 8 GiB available; the VMs of the VMFile that do not run yet want 16 GiB',
      'Bring up fewer at once (vmctl up NAME), or give them less "memory".',
    ]);
    expect(told('memory', { availableMemory: null })).toEqual(['unchecked: this host does not tell']);
  });
});
