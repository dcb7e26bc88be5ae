/** What runs the VMs of this host, and what it is missing: the backend, its programs, the accelerator, the firmware. Pure. */
import type { AcceleratorFacts } from '../src/hypervisor/hypervisor.js';
import { counted } from '../src/util/words.js';
import { type Check, isOlder, ok } from './check.js';
import type { HostFacts, KvmDevice } from './host-facts.js';
import { installStep } from './packages.js';

/** Older ones may work; this is the oldest that vmctl is tested with. */
const OLDEST_TESTED_QEMU = '7.2';

export function checkBackend({ backend, platform, architecture }: HostFacts): Check {
  const host = `${platform}, ${architecture}`;
  if ('kind' in backend) return ok('backend', 'backend', `${backend.kind} (${host})`);
  return { ...ok('backend', 'backend', `${backend.problem} (${host})`), result: 'problem' };
}

/** What a backend needs besides QEMU: propolis-server, and all that it takes. */
export function checkNeeds({ backend }: HostFacts): readonly Check[] {
  if (!('kind' in backend) || backend.kind !== 'propolis') return [];
  const { program, needs = [] } = backend.facts;
  const rows = needs.map(({ id, title, found, problem, next }): Check => {
    if (problem === null) return ok(id, title, found);
    return { id, title, result: 'problem', found: problem, next: [next] };
  });
  if (program === null) return rows;
  const server = ok(
    'propolis',
    'propolis-server',
    program.found ? `${program.version}, ${program.path}` : program.problem,
  );
  if (program.found) return [server, ...rows];
  const step = 'Build it from github.com/oxidecomputer/propolis and put it into PATH, or name it in propolis.binary.';
  return [{ ...server, result: 'problem', next: [step] }, ...rows];
}

export function checkQemu(facts: HostFacts): readonly Check[] {
  const { backend, system, qemuBinary } = facts;
  if (!('kind' in backend) || backend.kind === 'propolis' || backend.facts.program === null) return [];
  const { program, accelerator } = backend.facts;
  if (!program.found) {
    const step = qemuBinary === null ? installStep(['qemu', 'qemu-img'], system) : 'Check the setting qemu.binary.';
    const next = facts.architecture === 'x64' || qemuBinary !== null ? [step] : [];
    return [{ id: 'qemu', title: 'QEMU', result: 'problem', found: program.problem, next }];
  }
  const qemu = ok('qemu', 'QEMU', `${program.version}, ${program.path}`);
  const tested = !isOlder(program.version, OLDEST_TESTED_QEMU);
  const old: Check = {
    ...qemu,
    result: 'warning',
    found: `${qemu.found}: older than ${OLDEST_TESTED_QEMU}, the oldest that vmctl is tested with`,
    next: ['Get a newer QEMU, such as that of a newer release of this system, if something fails.'],
  };
  return [tested ? qemu : old, ...(accelerator === null ? [] : [checkAccelerator(accelerator, facts)])];
}

const ACCELERATORS = { kvm: 'KVM', hvf: 'HVF', tcg: 'software emulation' } as const;

function checkAccelerator(accelerator: AcceleratorFacts, facts: HostFacts): Check {
  const check = ok('accelerator', 'accelerator', '');
  const next = kvmSteps(accelerator.kvm, facts.kvm);
  if ('problem' in accelerator) {
    const another = 'Or set the accelerator to "auto", which falls back to software emulation.';
    return { ...check, result: 'problem', found: accelerator.problem, next: [...next, another] };
  }
  const name = ACCELERATORS[accelerator.accelerator];
  if (accelerator.reason === null) {
    return { ...check, found: accelerator.accelerator === 'tcg' ? `${name}, as it is set` : name };
  }
  return { ...check, result: 'warning', found: `${name}, several times slower: ${accelerator.reason}`, next };
}

function kvmSteps(state: AcceleratorFacts['kvm'], device: KvmDevice): readonly string[] {
  const atOnce = 'sudo setfacl -m "u:$USER:rw" /dev/kvm';
  switch (state) {
    case 'forbidden':
      if (device.group === null) return [atOnce];
      if (device.joined)
        return [`Log out and in again: you are in the group ${device.group}, and this session is not.`];
      return [
        `sudo usermod -aG ${device.group} "$USER"`,
        'Then log out and in again; or, until the next restart:',
        atOnce,
      ];
    case 'absent':
      if (device.inContainer) return ['Give the container the device: --device /dev/kvm'];
      if (device.processor !== null) return [`sudo modprobe ${device.processor === 'vmx' ? 'kvm_intel' : 'kvm_amd'}`];
      return [NO_VIRTUALISATION];
    case 'broken':
      return [
        'In a virtual machine, have nested virtualisation turned on by its host; everything works without, slower.',
      ];
    case 'works':
    case 'unopenable':
    case null:
      return [];
  }
}

const NO_VIRTUALISATION =
  'Turn on virtualisation (VT-x, AMD-V) in the firmware settings; in a virtual machine, nested virtualisation.';

export function checkFirmware({ backend, project, system }: HostFacts): readonly Check[] {
  if (!('kind' in backend) || backend.facts.firmware === null) return [];
  const { path } = backend.facts.firmware;
  const check = ok('firmware', 'UEFI firmware', path ?? '');
  if (path !== null) return [check];
  const next = [installStep(['firmware'], system)];
  const wanting = project.kind === 'valid' ? project.uefiVms : 0;
  if (wanting === 0) return [{ ...check, result: 'unchecked', found: 'none; only firmware "uefi" needs it', next }];
  return [
    {
      ...check,
      result: 'problem',
      found: `none, and ${counted(wanting, 'VM')} of the VMFile cannot start without`,
      next,
    },
  ];
}
