/** Whether this host can run VMs of Propolis: the programs, the firmware, the pool, the zone and the rights. */
import { stat } from 'node:fs/promises';
import { VmctlError } from '../../errors.js';
import type { BackendFacts, HostNeed, ProgramFacts } from '../hypervisor.js';
import { parseZones } from './delimited.js';
import type { HostRunner } from './host-runner.js';

export interface HostConfig {
  readonly binary: string;
  readonly bootrom: string;
  readonly dataset: string;
}

/** `MAX_ROM_SIZE` of the server, which takes whole pages only. */
const MAX_BOOTROM_BYTES = 2 * 1024 ** 2;
const PAGE_BYTES = 4096;

/** Throws `HOST_UNSUPPORTED` with the first thing that is missing, and what to do about it. */
export async function requireHost(host: HostRunner, config: HostConfig, signal: AbortSignal): Promise<void> {
  const program = await examineServer(host, config, signal);
  if (!program.found) throw unsupported(program.problem, SERVER_HINT);
  for (const need of await examineNeeds(host, config, signal)) {
    if (need.problem !== null) throw unsupported(need.problem, need.next);
  }
}

/** Finds out as much as it can. */
export async function examinePropolisHost(
  host: HostRunner,
  config: HostConfig,
  signal: AbortSignal,
): Promise<BackendFacts> {
  const program = await examineServer(host, config, signal);
  return { program, accelerator: null, firmware: null, needs: await examineNeeds(host, config, signal) };
}

const SERVER_HINT =
  'Build propolis-server (github.com/oxidecomputer/propolis) and put it into PATH, or name it in the setting propolis.binary.';

function unsupported(problem: string, hint: string): VmctlError {
  return new VmctlError('HOST_UNSUPPORTED', problem, { hint });
}

async function examineServer(host: HostRunner, { binary }: HostConfig, signal: AbortSignal): Promise<ProgramFacts> {
  try {
    const { stdout } = await host.look([binary, '--version'], signal);
    return { found: true, path: binary, version: /(\d\S*)/.exec(stdout)?.[1] ?? 'unknown version' };
  } catch (error) {
    // One that tells no version is there nevertheless.
    if (error instanceof VmctlError && error.code === 'COMMAND_FAILED') {
      return { found: true, path: binary, version: 'unknown version' };
    }
    return { found: false, name: binary, problem: wordsUnlessAborted(error) };
  }
}

async function examineNeeds(host: HostRunner, config: HostConfig, signal: AbortSignal): Promise<readonly HostNeed[]> {
  return [
    await examineBootrom(config),
    await examinePool(host, config, signal),
    await examineZone(host, signal),
    await examineRights(host, signal),
  ];
}

async function examineBootrom({ bootrom }: HostConfig): Promise<HostNeed> {
  const need = { id: 'bootrom', title: 'bootrom', found: bootrom };
  const next = 'Name an OVMF_CODE.fd in the setting propolis.bootrom, such as that of github.com/oxidecomputer/edk2.';
  const size = await stat(bootrom).then(
    (facts) => facts.size,
    () => null,
  );
  if (size === null) return { ...need, problem: `there is no bootrom ${bootrom}`, next };
  if (size > 0 && size % PAGE_BYTES === 0 && size <= MAX_BOOTROM_BYTES) return { ...need, problem: null, next };
  const problem = `the bootrom ${bootrom} has ${size} bytes, and propolis-server takes whole pages of 4 KiB, 2 MiB at most`;
  return { ...need, problem, next };
}

async function examinePool(host: HostRunner, { dataset }: HostConfig, signal: AbortSignal): Promise<HostNeed> {
  const [pool = dataset] = dataset.split('/');
  const next = 'Name a dataset of a pool of yours in the setting propolis.dataset; see them with: zpool list';
  const need = { id: 'pool', title: 'ZFS pool', found: `${pool}, disks below ${dataset}`, next };
  try {
    await host.look(['zfs', 'list', '-H', '-o', 'name', pool], signal);
    return { ...need, problem: null };
  } catch (error) {
    return { ...need, problem: `the ZFS pool ${pool} cannot be used: ${wordsUnlessAborted(error)}` };
  }
}

/**
 * Which zone vmctl is in, and of which brand: servers run in the same one, and the devices of bhyve are in the global
 * zone, unless somebody gave them to another. From another zone only that one is seen (zoneadm(8)).
 */
async function examineZone(host: HostRunner, signal: AbortSignal): Promise<HostNeed> {
  const need = { id: 'zone', title: 'zone and brand', found: 'unknown', next: 'Run vmctl in the global zone.' };
  try {
    const zones = parseZones((await host.look(['zoneadm', 'list', '-p'], signal)).stdout);
    const zone = zones.find(({ name }) => name === 'global') ?? zones[0];
    if (zone === undefined) return { ...need, problem: 'zoneadm tells of no zone' };
    const found = `${zone.name}, brand ${zone.brand}`;
    const isGlobal = zone.name === 'global';
    return { ...need, found, problem: isGlobal ? null : `this is the zone ${found}, which has no /dev/vmmctl` };
  } catch (error) {
    return { ...need, problem: `the zone is unknown: ${wordsUnlessAborted(error)}` };
  }
}

async function examineRights(host: HostRunner, signal: AbortSignal): Promise<HostNeed> {
  const found = host.isRoot ? 'root' : 'by pfexec';
  const next = "As root: usermod -P 'Primary Administrator' USER";
  const need = { id: 'rights', title: 'rights', found, next };
  if (host.isRoot) return { ...need, problem: null };
  try {
    const { stdout } = await host.look(['pfexec', 'id', '-u'], signal);
    const isEnough = stdout.trim() === '0';
    return { ...need, problem: isEnough ? null : 'pfexec does not let this user make volumes, VNICs and VMs' };
  } catch (error) {
    return { ...need, problem: `pfexec cannot be used: ${wordsUnlessAborted(error)}` };
  }
}

function wordsUnlessAborted(error: unknown): string {
  if (error instanceof VmctlError && error.code === 'ABORTED') throw error;
  return error instanceof Error ? error.message : String(error);
}
