/** Gathers the facts about this host. Looks only: nothing is repaired, made or removed. */
import { constants } from 'node:fs';
import { access, readFile, stat, statfs } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname } from 'node:path';
import { VmctlError, toVmctlError } from '../src/errors.js';
import type { ProgramFacts } from '../src/hypervisor/hypervisor.js';
import { listCachedImages } from '../src/image/cache-index.js';
import { addressOf } from '../src/image/source.js';
import type { VmSpec } from '../src/model/spec.js';
import { type CommandRunner, runCommand } from '../src/util/exec.js';
import { diskUsage } from '../src/util/disk-usage.js';
import { exists, isMissing } from '../src/util/fs.js';
import { VmFileError } from '../src/vmfile/error.js';
import type { TaskEnvironment } from './context.js';
import type { HostFacts, KvmDevice, NetworkProblem, ProjectFacts, StateFacts } from './host-facts.js';
import { inspectThose } from './inspect.js';
import { findLeftovers } from './leftovers.js';
import { familyOf } from './packages.js';
import { parseProject } from './parse.js';

export interface GatherOptions {
  /** The VMFile; default `VMFile.kdl` in the current folder. */
  readonly file: string | undefined;
  readonly settingsProblem: HostFacts['settingsProblem'];
  readonly qemuBinary: string | null;
}

/** Asks the host. Throws `ABORTED` at most: what cannot be found out is a fact of its own. */
export async function gatherHostFacts(env: TaskEnvironment, options: GatherOptions): Promise<HostFacts> {
  const osRelease = await firstText(['/etc/os-release', '/usr/lib/os-release']);
  const { signal } = env;
  return {
    node: process.versions.node,
    platform: process.platform,
    architecture: process.arch,
    system: { family: familyOf(process.platform, osRelease), isRoot: process.geteuid?.() === 0 },
    settingsProblem: options.settingsProblem,
    qemuBinary: options.qemuBinary,
    backend: await examineBackend(env),
    kvm: await examineKvmDevice(),
    qemuImg: await examineProgram('qemu-img', { words: ['--version'], version: /version (\S+)/, signal }),
    ssh: await examineProgram('ssh', { words: ['-V'], version: /^([^,\n]+)/, signal }),
    missingDecompressors: await missingDecompressors(signal),
    state: { ...(await examineState(env.paths.root)), frozenBytes: await diskUsage(env.paths.warm).catch(() => 0) },
    availableMemory: await availableMemory(),
    project: await examineProject(env, options.file),
    leftovers: await examineLeftovers(env),
  };
}

async function examineBackend(env: TaskEnvironment): Promise<HostFacts['backend']> {
  try {
    return { kind: env.hypervisor.kind, facts: await env.hypervisor.examineHost(env.signal) };
  } catch (error) {
    return { problem: wordsUnlessAborted(error) };
  }
}

async function examineLeftovers(env: TaskEnvironment): Promise<HostFacts['leftovers']> {
  try {
    const { garbage, troubles, processesKnown } = await findLeftovers(env);
    const garbageBytes = garbage.reduce((sum, { bytes }) => sum + bytes, 0);
    return { garbage: garbage.length, garbageBytes, troubles, processesKnown };
  } catch (error) {
    return { problem: wordsUnlessAborted(error) };
  }
}

async function examineProject(env: TaskEnvironment, file: string | undefined): Promise<ProjectFacts> {
  const { cwd, home, paths } = env;
  try {
    const { source, specs } = await parseProject({ file, cwd, home, backend: env.hypervisor.kind });
    const states = await statesByName(env);
    const images = new Set(
      (await listCachedImages(paths.images)).flatMap(({ record }) => record.origins.map(({ key }) => key)),
    );
    const fresh = specs.filter(({ name }) => !states.has(name));
    const wanted = new Set(fresh.flatMap(({ image }) => (image.kind === 'url' ? [addressOf(image.url).key] : [])));
    return {
      kind: 'valid',
      path: source.path,
      vms: specs.length,
      newDiskBytes: fresh.reduce((sum, { diskBytes }) => sum + (diskBytes ?? 0), 0),
      newDisksOfImageSize: fresh.filter(({ diskBytes }) => diskBytes === null).length,
      imagesToDownload: [...wanted].filter((key) => !images.has(key)).length,
      bridges: await examineBridges(env, specs),
      uefiVms: specs.filter(({ firmware }) => firmware === 'uefi').length,
      memoryMib: specs.reduce((sum, { name, memoryMib }) => sum + (isLive(states.get(name)) ? 0 : memoryMib), 0),
    };
  } catch (error) {
    if (error instanceof VmFileError) {
      const mistakes = error.diagnostics.filter(({ severity }) => severity === 'error').length;
      return { kind: 'invalid', path: error.source.path, mistakes };
    }
    const isAbsent = error instanceof VmctlError && error.code === 'VMFILE_NOT_FOUND' && isMissing(error.cause);
    if (isAbsent && file === undefined) return { kind: 'none', folder: cwd };
    return { kind: 'unreadable', problem: wordsUnlessAborted(error) };
  }
}

async function examineBridges(
  { hypervisor }: TaskEnvironment,
  specs: readonly VmSpec[],
): Promise<readonly { readonly name: string; readonly problem: NetworkProblem | null }[]> {
  const users = new Map(specs.flatMap((spec) => (spec.network.kind === 'tap' ? [[spec.network.bridge, spec]] : [])));
  return Promise.all(
    Array.from(users, async ([name, spec]) => {
      try {
        await hypervisor.checkNetwork(spec);
        return { name, problem: null };
      } catch (error) {
        return { name, problem: { message: wordsUnlessAborted(error), hint: toVmctlError(error).hint } };
      }
    }),
  );
}

const isLive = (state: string | undefined): boolean => state === 'running' || state === 'suspended';

async function statesByName(env: TaskEnvironment): Promise<ReadonlyMap<string, string>> {
  const { entries } = await env.registry.look();
  const inspections = await inspectThose(env, entries);
  return new Map(inspections.map((one) => [one.entry.name, 'problem' in one ? 'damaged' : one.observed.state]));
}

async function examineState(root: string): Promise<Omit<StateFacts, 'frozenBytes'>> {
  const mode = await stat(root).then(
    (facts) => facts.mode & 0o777,
    () => null,
  );
  let place = root;
  while (!(await exists(place).catch(() => true)) && dirname(place) !== place) place = dirname(place);
  const freeBytes = await statfs(place).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => null,
  );
  try {
    const facts = await stat(place);
    if (!facts.isDirectory()) return { root, mode, freeBytes, problem: `${place} is not a folder` };
    await access(place, constants.W_OK | constants.X_OK);
    return { root, mode, freeBytes, problem: null };
  } catch (error) {
    return { root, mode, freeBytes, problem: `${place} cannot be written: ${wordsUnlessAborted(error)}` };
  }
}

/** proc_meminfo(5): `MemAvailable` counts what the kernel can give up, which the free memory of other systems does not. */
async function availableMemory(): Promise<number | null> {
  const kibibytes = /^MemAvailable:\s+(\d+) kB/m.exec((await firstText(['/proc/meminfo'])) ?? '')?.[1];
  return kibibytes === undefined ? null : Number(kibibytes) * 1024;
}

async function examineKvmDevice(): Promise<KvmDevice> {
  const device = await stat('/dev/kvm').catch(() => null);
  const groupMayUse = device !== null && (device.mode & 0o060) === 0o060 && device.gid !== 0;
  const groups = ((await firstText(['/etc/group'])) ?? '').split('\n').map((line) => line.split(':'));
  const [name, , , members = ''] = groups.find(([, , gid]) => groupMayUse && Number(gid) === device.gid) ?? [];
  const cpu = (await firstText(['/proc/cpuinfo'])) ?? '';
  const flag = /^flags\s*:.*\b(vmx|svm)\b/m.exec(cpu)?.[1];
  return {
    group: name ?? null,
    joined: members.split(',').includes(userName()),
    processor: flag === 'vmx' || flag === 'svm' ? flag : null,
    inContainer: (await firstText(['/.dockerenv', '/run/.containerenv'])) !== null,
  };
}

/** Empty for a user without a name, as in some containers. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return '';
  }
}

const DECOMPRESSORS = ['zstd', 'xz', 'bzip2'] as const;

async function missingDecompressors(signal: AbortSignal): Promise<HostFacts['missingDecompressors']> {
  const looks = await Promise.all(
    DECOMPRESSORS.map(async (name) => {
      const { found } = await examineProgram(name, { words: ['--help'], version: /()/, signal });
      return found ? [] : [name];
    }),
  );
  return looks.flat();
}

const PROGRAM_TIMEOUT_MS = 10_000;

/** Asks a program for its version; `ssh` tells it on stderr. */
export async function examineProgram(
  name: string,
  options: {
    readonly words: readonly string[];
    readonly version: RegExp;
    readonly signal: AbortSignal;
    readonly run?: CommandRunner;
  },
): Promise<ProgramFacts> {
  const { words, version, signal, run = runCommand } = options;
  try {
    const { stdout, stderr } = await run(name, words, { signal, timeoutMs: PROGRAM_TIMEOUT_MS });
    return { found: true, path: name, version: version.exec(`${stdout}${stderr}`)?.[1] ?? 'unknown version' };
  } catch (error) {
    return { found: false, name, problem: wordsUnlessAborted(error) };
  }
}

/** The words of an error; throws it on when the command was interrupted. */
function wordsUnlessAborted(error: unknown): string {
  if (error instanceof VmctlError && error.code === 'ABORTED') throw error;
  return error instanceof Error ? error.message : toVmctlError(error).message;
}

async function firstText(paths: readonly string[]): Promise<string | null> {
  for (const path of paths) {
    const text = await readFile(path, 'utf8').catch(() => null);
    if (text !== null) return text;
  }
  return null;
}
