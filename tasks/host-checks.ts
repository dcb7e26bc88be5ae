/** What the facts about this host mean for somebody who wants to run VMs on it, and what to type. Pure. */
import type { AcceleratorFacts, BackendFacts, ProgramFacts } from '../src/hypervisor/hypervisor.js';
import { shellQuote } from '../src/ssh/shell-quote.js';
import { counted } from '../src/util/words.js';
import { MIB } from '../src/vmfile/sizes.js';
import type { Trouble } from './leftovers.js';
import { type Need, type System, installStep } from './packages.js';
import { bytesText } from './progress-text.js';

export type CheckResult = 'ok' | 'warning' | 'problem' | 'unchecked';

/** One line of the doctor's table. */
export interface Check {
  /** Stable, for programs. */
  readonly id: string;
  readonly title: string;
  /** `problem`: VMs cannot be run before it is solved. `warning`: they can, but something is amiss or missing. */
  readonly result: CheckResult;
  /** What was found. */
  readonly found: string;
  /** Commands to type, or sentences that end with a full stop. */
  readonly next: readonly string[];
}

/** Everything that the checks are made of. */
export interface HostFacts {
  readonly node: string;
  readonly platform: NodeJS.Platform;
  readonly architecture: string;
  readonly system: System;
  /** The mistake in the configuration; null where there is none. */
  readonly settingsProblem: { readonly message: string; readonly hint: string | null } | null;
  /** The setting `qemu.binary`. */
  readonly qemuBinary: string | null;
  readonly backend: { readonly kind: string; readonly facts: BackendFacts } | { readonly problem: string };
  readonly kvm: KvmDevice;
  readonly qemuImg: ProgramFacts;
  readonly ssh: ProgramFacts;
  /** Programs for compressed images that are not there. */
  readonly missingDecompressors: readonly ('zstd' | 'xz' | 'bzip2')[];
  readonly state: StateFacts;
  /** Bytes that programs can still get; null where this host does not tell. */
  readonly availableMemory: number | null;
  readonly project: ProjectFacts;
  readonly leftovers:
    | {
        readonly garbage: number;
        readonly garbageBytes: number;
        readonly troubles: readonly Trouble[];
        readonly processesKnown: boolean;
      }
    | { readonly problem: string };
}

/** Who may use `/dev/kvm`, and why it may be missing. */
export interface KvmDevice {
  /** The group that may read and write the device; null where there is none but root's. */
  readonly group: string | null;
  /** The user is in that group, but this session is not. */
  readonly joined: boolean;
  /** What the processor calls its virtualisation; null where it has none, or hides it. */
  readonly processor: 'vmx' | 'svm' | null;
  readonly inContainer: boolean;
}

export interface StateFacts {
  readonly root: string;
  /** Why nothing can be written there; null where it can. */
  readonly problem: string | null;
  /** The permission bits; null where it does not exist yet. */
  readonly mode: number | null;
  /** Null where the file system does not tell. */
  readonly freeBytes: number | null;
  /** What frozen VMs take. */
  readonly frozenBytes: number;
}

export interface NetworkProblem {
  readonly message: string;
  readonly hint: string | null;
}

export type ProjectFacts =
  | { readonly kind: 'none'; readonly folder: string }
  | { readonly kind: 'unreadable'; readonly problem: string }
  | { readonly kind: 'invalid'; readonly path: string; readonly mistakes: number }
  | {
      readonly kind: 'valid';
      readonly path: string;
      readonly vms: number;
      /** The declared disks of VMs that do not exist yet, at their full size. */
      readonly newDiskBytes: number;
      /** VMs that do not exist yet and take the size of their image. */
      readonly newDisksOfImageSize: number;
      readonly imagesToDownload: number;
      /** The bridges that VMs are to be connected to, each with what is wrong with it; null for nothing. */
      readonly bridges: readonly { readonly name: string; readonly problem: NetworkProblem | null }[];
      /** VMs with `firmware "uefi"`. */
      readonly uefiVms: number;
      /** Of the VMs that do not run yet. */
      readonly memoryMib: number;
    };

/** The oldest Node.js that vmctl runs on. */
const OLDEST_NODE = '20.19.0';
/** Older ones may work; this is the oldest that vmctl is tested with. */
const OLDEST_TESTED_QEMU = '7.2';
/** Below this not even the small files of a VM are sure to fit. */
const NO_SPACE_BYTES = 64 * MIB;

/** Every check, in the order in which they are best solved. */
export function checkHost(facts: HostFacts): readonly Check[] {
  return [
    checkNode(facts),
    checkBackend(facts),
    checkSettings(facts),
    ...checkNeeds(facts),
    ...checkQemu(facts),
    ...checkFirmware(facts),
    checkQemuImg(facts),
    checkSsh(facts),
    checkDecompressors(facts),
    checkStateDirectory(facts),
    checkSpace(facts),
    checkMemory(facts),
    checkVmFile(facts),
    ...checkBridges(facts),
    ...checkLeftovers(facts),
  ];
}

const ok = (id: string, title: string, found: string): Check => ({ id, title, result: 'ok', found, next: [] });

function checkNode({ node }: HostFacts): Check {
  const check = ok('node', 'Node.js', node);
  if (!isOlder(node, OLDEST_NODE)) return check;
  const found = `${node} is older than ${OLDEST_NODE}`;
  return { ...check, result: 'problem', found, next: [`Install Node.js ${OLDEST_NODE} or newer: https://nodejs.org.`] };
}

function checkBackend({ backend, platform, architecture }: HostFacts): Check {
  const host = `${platform}, ${architecture}`;
  if ('kind' in backend) return ok('backend', 'backend', `${backend.kind} (${host})`);
  return { ...ok('backend', 'backend', `${backend.problem} (${host})`), result: 'problem' };
}

function checkSettings({ settingsProblem }: HostFacts): Check {
  const check = ok('settings', 'settings', 'valid');
  if (settingsProblem === null) return check;
  const { message, hint } = settingsProblem;
  return { ...check, result: 'problem', found: message, next: hint === null ? [] : [hint] };
}

/** What a backend needs besides QEMU: propolis-server, and all that it takes. */
function checkNeeds({ backend }: HostFacts): readonly Check[] {
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

function checkQemu(facts: HostFacts): readonly Check[] {
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

function checkFirmware({ backend, project, system }: HostFacts): readonly Check[] {
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

function checkQemuImg({ qemuImg, system }: HostFacts): Check {
  return checkProgram(qemuImg, {
    id: 'qemu-img',
    result: 'problem',
    need: 'qemu-img',
    system,
    use: 'needed for every disk',
  });
}

function checkSsh({ ssh, system }: HostFacts): Check {
  return checkProgram(ssh, { id: 'ssh', result: 'warning', need: 'ssh', system, use: 'needed by vmctl ssh' });
}

function checkProgram(
  program: ProgramFacts,
  options: { id: string; result: CheckResult; need: Need; system: System; use: string },
): Check {
  const { id, result, need, system, use } = options;
  if (program.found) return ok(id, id, program.version);
  return { id, title: id, result, found: `${program.problem}; ${use}`, next: [installStep([need], system)] };
}

function checkDecompressors({ missingDecompressors: missing, system }: HostFacts): Check {
  const check = ok('decompression', 'compressed images', 'gzip, zstd, xz, bzip2');
  if (missing.length === 0) return check;
  const found = `without ${missing.join(', ')} no image compressed with ${missing.length === 1 ? 'it' : 'them'} can be fetched`;
  return { ...check, result: 'warning', found, next: [installStep(missing, system)] };
}

function checkStateDirectory({ state }: HostFacts): Check {
  const { root, problem, mode } = state;
  const check = ok('state', 'state directory', root);
  if (problem !== null) {
    const next = [`Make ${root} writable, or set XDG_DATA_HOME to another folder.`];
    return { ...check, result: 'problem', found: problem, next };
  }
  if (mode === null) return { ...check, found: `${root} (made when it is needed)` };
  if ((mode & 0o077) === 0) return check;
  const found = `${root} holds private keys and is open to others (mode ${mode.toString(8).padStart(4, '0')})`;
  return { ...check, result: 'warning', found, next: [`chmod 700 ${shellQuote(root)}`] };
}

function checkSpace({ state, project }: HostFacts): Check {
  const check = ok('space', 'disk space', '');
  const { freeBytes, frozenBytes } = state;
  if (freeBytes === null) return { ...check, result: 'unchecked', found: 'the file system does not tell' };
  const frozen = frozenBytes === 0 ? '' : `; frozen VMs take ${bytesText(frozenBytes)}`;
  const free = `${bytesText(freeBytes)} free${frozen}`;
  const next = ['vmctl gc --dry-run --images-older-than 30d'];
  if (frozenBytes > 0) next.push('vmctl warm prune --dry-run --older-than 7d');
  if (freeBytes < NO_SPACE_BYTES) return { ...check, result: 'problem', found: `only ${free}`, next };
  if (project.kind !== 'valid') return { ...check, found: free };
  const { newDiskBytes, newDisksOfImageSize, imagesToDownload } = project;
  const needs = [
    newDiskBytes === 0 ? null : `the VMFile's new disks may grow to ${bytesText(newDiskBytes)}`,
    newDisksOfImageSize === 0 ? null : `${counted(newDisksOfImageSize, 'new disk')} of the image's size`,
    imagesToDownload === 0 ? null : `${counted(imagesToDownload, 'image')} to download, of unknown size`,
  ].filter((need) => need !== null);
  const found = [free, ...needs].join('; ');
  return newDiskBytes > freeBytes ? { ...check, result: 'warning', found, next } : { ...check, found };
}

function checkMemory({ availableMemory, project }: HostFacts): Check {
  const check = ok('memory', 'memory', '');
  if (availableMemory === null) return { ...check, result: 'unchecked', found: 'this host does not tell' };
  const available = `${bytesText(availableMemory)} available`;
  if (project.kind !== 'valid' || project.memoryMib === 0) return { ...check, found: available };
  const wanted = project.memoryMib * MIB;
  const found = `${available}; the VMs of the VMFile that do not run yet want ${bytesText(wanted)}`;
  if (wanted <= availableMemory) return { ...check, found };
  const next = ['Bring up fewer at once (vmctl up NAME), or give them less "memory".'];
  return { ...check, result: 'warning', found, next };
}

function checkVmFile({ project }: HostFacts): Check {
  const check = ok('vmfile', 'VMFile', '');
  switch (project.kind) {
    case 'none':
      return { ...check, result: 'unchecked', found: `none in ${project.folder}` };
    case 'unreadable':
      return { ...check, result: 'warning', found: project.problem };
    case 'invalid': {
      const { path, mistakes } = project;
      return {
        ...check,
        result: 'warning',
        found: `${path} has ${counted(mistakes, 'mistake')}`,
        next: ['vmctl validate'],
      };
    }
    case 'valid':
      return { ...check, found: `${project.path}: ${counted(project.vms, 'VM')}` };
  }
}

function checkBridges({ project }: HostFacts): readonly Check[] {
  if (project.kind !== 'valid') return [];
  return project.bridges.map(({ name, problem }) => {
    const check = ok('network', `bridge ${name}`, 'there');
    if (problem === null) return check;
    const next = problem.hint === null ? [] : [problem.hint];
    return { ...check, result: 'problem', found: problem.message, next };
  });
}

function checkLeftovers({ leftovers }: HostFacts): readonly Check[] {
  const check = ok('leftovers', 'leftovers', 'none');
  if ('problem' in leftovers) return [{ ...check, result: 'warning', found: leftovers.problem }];
  const { garbage, garbageBytes, troubles, processesKnown } = leftovers;
  const checks: Check[] = troubles.map(({ what, next }) => ({
    ...check,
    result: 'warning',
    found: what,
    next: [next],
  }));
  if (garbage > 0) {
    const found = `${counted(garbage, 'thing')} left by killed processes, ${bytesText(garbageBytes)}`;
    checks.push({ ...check, result: 'warning', found, next: ['vmctl gc --dry-run'] });
  }
  if (checks.length > 0) return checks;
  if (processesKnown) return [check];
  return [{ ...check, result: 'unchecked', found: 'none; which processes run is not known here' }];
}

/** Compares versions number by number; what is missing counts as 0. */
function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number));
  for (const [index, wanted] of (b ?? []).entries()) {
    const given = a?.[index] ?? 0;
    if (given !== wanted) return given < wanted;
  }
  return false;
}
