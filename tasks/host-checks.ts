/** What the facts about this host mean for somebody who wants to run VMs on it, and what to type. Pure. */
import type { ProgramFacts } from '../src/hypervisor/hypervisor.js';
import { shellQuote } from '../src/ssh/shell-quote.js';
import { counted } from '../src/util/words.js';
import { MIB } from '../src/vmfile/sizes.js';
import { type Check, type CheckResult, isOlder, ok } from './check.js';
import type { HostFacts } from './host-facts.js';
import { checkBackend, checkFirmware, checkNeeds, checkQemu } from './hypervisor-checks.js';
import { type Need, type System, installStep } from './packages.js';
import { bytesText } from './progress-text.js';

/** The oldest Node.js that vmctl runs on. */
const OLDEST_NODE = '20.19.0';
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

function checkNode({ node }: HostFacts): Check {
  const check = ok('node', 'Node.js', node);
  if (!isOlder(node, OLDEST_NODE)) return check;
  const found = `${node} is older than ${OLDEST_NODE}`;
  return { ...check, result: 'problem', found, next: [`Install Node.js ${OLDEST_NODE} or newer: https://nodejs.org.`] };
}

function checkSettings({ settingsProblem }: HostFacts): Check {
  const check = ok('settings', 'settings', 'valid');
  if (settingsProblem === null) return check;
  const { message, hint } = settingsProblem;
  return { ...check, result: 'problem', found: message, next: hint === null ? [] : [hint] };
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
