/**
 * What killed processes have left in the state directory, shared by `gc`, `doctor` and the sweep that begins commands:
 * facts are gathered here, and `judge…` decides what each is. Garbage can go at once; trouble needs somebody's decision.
 */
import { lstat, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkProcess } from '../src/hypervisor/hypervisor.js';
import { type CacheRest, findCacheRests } from '../src/image/cache-rests.js';
import { downloadLock } from '../src/image/cache-index.js';
import { type FoundRun, listRuns } from '../src/lifetime/run.js';
import { VM_FILES } from '../src/paths.js';
import type { RegistryView } from '../src/registry.js';
import { diskUsage } from '../src/util/disk-usage.js';
import { exists, namesIn } from '../src/util/fs.js';
import { deadLocks, lockOwner } from '../src/util/lock.js';
import type { TaskEnvironment } from './context.js';
import { listRests } from '../src/warm/store.js';
import { findImageUse, usersOf } from './image-use.js';
import { frozenFacts } from './warm-collect.js';

/** Something that nobody needs any more, and why. */
export type Garbage = { readonly path: string; readonly bytes: number; readonly why: string } & (
  | { readonly kind: 'VM rest'; readonly vm: string }
  | { readonly kind: 'registry entry'; readonly vm: string }
  | { readonly kind: 'lock' }
  /** `path` is made or removed, or cannot be used any more. */
  | { readonly kind: 'frozen VM'; readonly key: string }
  | { readonly kind: 'run'; readonly run: FoundRun }
  | { readonly kind: 'download rest'; readonly rest: CacheRest }
);

/** Something that is wrong, which only its owner can decide about: the command that ends it. */
export interface Trouble {
  readonly what: string;
  readonly next: string;
}

export interface Leftovers {
  readonly garbage: readonly Garbage[];
  readonly troubles: readonly Trouble[];
  /** False where this host does not tell which processes work in a directory. */
  readonly processesKnown: boolean;
}

type World = Pick<TaskEnvironment, 'paths' | 'registry' | 'hypervisor'>;

/** A download that somebody broke off is continued by the next who wants the image; after so long nobody will. */
const PARTIAL_LIFETIME_MS = 7 * 24 * 60 * 60 * 1000;

export interface LeftoverOptions {
  /** Whether runs that were to stay are to go now; default no. */
  readonly kept?: boolean;
  /** A partial download that nobody works on is garbage after so long; default a week. */
  readonly partialLifetimeMs?: number;
}

/** Looks at everything, and changes nothing. What cannot be looked at is trouble, and hides nothing else. */
export async function findLeftovers(env: World, options: LeftoverOptions = {}): Promise<Leftovers> {
  const { kept = false, partialLifetimeMs = PARTIAL_LIFETIME_MS } = options;
  const { paths, registry } = env;
  const view = await registry.look();
  const processes = await env.hypervisor.findProcesses(paths.vms);
  const verdicts: (Verdict | null)[] = [];
  if (view.damaged) verdicts.push({ trouble: { what: `${paths.registry} is damaged`, next: 'vmctl list' } });
  const look = async (path: string, judge: () => Promise<readonly (Verdict | null)[]>): Promise<void> => {
    verdicts.push(...(await judge().catch((error: unknown) => [{ trouble: unseen(path, error) }])));
  };
  for (const entry of (await namesIn(paths.vms)).toSorted()) {
    await look(join(paths.vms, entry), async () => {
      const facts = await examineDirectory(env, entry, { view, processes: processes ?? [] });
      return [facts === null ? null : judgeDirectory(facts)];
    });
  }
  verdicts.push(...(processes ?? []).map(judgeLostProcess));
  for (const vm of view.gone) await look(paths.vm(vm), async () => [await judgeEntry(env, vm)]);
  await look(paths.runs, async () => judgeRuns(await listRuns(paths), kept));
  await look(paths.warm, () => judgeFrozen(env));
  for (const folder of [paths.root, paths.locks, paths.images, paths.warm])
    await look(folder, () => judgeLocks(folder));
  await look(paths.images, () => judgeCache(env, Date.now() - partialLifetimeMs));
  return {
    garbage: verdicts.flatMap((verdict) => (verdict !== null && 'garbage' in verdict ? [verdict.garbage] : [])),
    troubles: verdicts.flatMap((verdict) => (verdict !== null && 'trouble' in verdict ? [verdict.trouble] : [])),
    processesKnown: processes !== null,
  };
}

function unseen(path: string, error: unknown): Trouble {
  const words = error instanceof Error ? error.message : String(error);
  return { what: `${path} cannot be looked at: ${words}`, next: `ls -la ${path}` };
}

async function judgeEntry({ paths }: World, vm: string): Promise<Verdict | null> {
  if ((await lockOwner(paths.vmLock(vm))) !== null) return null;
  const why = 'the list of VMs has it, and its directory is gone';
  return { garbage: { kind: 'registry entry', vm, path: paths.vm(vm), bytes: 0, why } };
}

async function judgeCache(env: World, partialsBefore: number): Promise<readonly (Verdict | null)[]> {
  const { images } = env.paths;
  const use = await findImageUse(env);
  const verdicts: (Verdict | null)[] = [];
  for (const rest of await findCacheRests(images)) {
    const busy = rest.key !== null && (await lockOwner(downloadLock(images, rest.key))) !== null;
    const users = await usersOf(use, rest.path);
    verdicts.push(busy ? null : judgeCacheRest(rest, { users, unreadable: use.unreadable, partialsBefore }));
  }
  return verdicts;
}

/** What a killed process has left half-made, and what cannot be used; where a VM stands on that, it stays. */
async function judgeFrozen(env: World): Promise<readonly Verdict[]> {
  const rests = (await listRests(env.paths)).map((rest) => ({
    ...rest,
    why: 'vmctl was killed while it froze or removed this VM',
  }));
  const broken = (await frozenFacts(env))
    .filter(({ manifest, users }) => manifest === null && users.length === 0)
    .map(({ key, folder: path }) => ({ key, path, why: 'it is not whole, or of another version of vmctl' }));
  const found: Verdict[] = [];
  for (const { key, path, why } of [...rests, ...broken]) {
    if ((await lockOwner(env.paths.frozenLock(key))) !== null) continue;
    found.push({ garbage: { kind: 'frozen VM', key, path, bytes: await diskUsage(path), why } });
  }
  return found;
}

type Verdict = { readonly garbage: Garbage } | { readonly trouble: Trouble };

/** What is known of something below `vms/` that may be garbage. */
export interface DirectoryFacts {
  readonly path: string;
  readonly vm: string;
  /** A directory under construction, one that was being removed, or one that should be a VM. */
  readonly role: 'staging' | 'removing' | 'vm';
  /** Whether the registry has it, its handle can be read, and there is a disk in it. */
  readonly recorded: boolean;
  readonly readable: boolean;
  readonly hasDisk: boolean;
  /** The process that works in it. */
  readonly pid: number | null;
  /** A living process holds the VM's lock: what is there is that one's business. */
  readonly busy: boolean;
  readonly bytes: number;
}

/** Decides about one directory; null when nothing is wrong with it. A disk is never garbage, and nothing that runs. */
export function judgeDirectory(facts: DirectoryFacts): Verdict | null {
  const { path, vm, role, bytes, pid } = facts;
  if (facts.busy) return null;
  if (role !== 'vm') {
    if (pid !== null) {
      const what = `a QEMU (pid ${pid}) still runs in ${path}, the rest of VM "${vm}"`;
      return { trouble: { what, next: `kill ${pid}` } };
    }
    const why =
      role === 'staging' ? 'vmctl was killed while it made this VM' : 'vmctl was killed while it removed this VM';
    return { garbage: { kind: 'VM rest', vm, path, bytes, why } };
  }
  if (facts.readable) return null;
  if (facts.recorded || facts.hasDisk || pid !== null) {
    const runs = pid === null ? '' : `, and its QEMU (pid ${pid}) still runs`;
    const what = `VM "${vm}" is damaged: ${join(path, VM_FILES.handle)} is missing or unreadable${runs}`;
    return { trouble: { what, next: `vmctl destroy ${vm}` } };
  }
  const why = 'there is no VM in it: no disk, no process, and the list of VMs does not have it';
  return { garbage: { kind: 'VM rest', vm, path, bytes, why } };
}

function judgeLostProcess({ pid, vm, directory }: WorkProcess): Verdict | null {
  if (directory !== null) return null;
  return {
    trouble: { what: `a QEMU of VM "${vm}" (pid ${pid}) still runs, and its directory is gone`, next: `kill ${pid}` },
  };
}

/** A run is garbage when its owner is gone; one that was to stay, only when that is asked for. */
async function judgeRuns(runs: readonly FoundRun[], kept: boolean): Promise<readonly Verdict[]> {
  const doomed = runs.filter(({ state }) => state === 'dead' || (kept && state !== 'live'));
  return Promise.all(
    doomed.map(async (run) => {
      const path = run.paths.root;
      return { garbage: { kind: 'run', run, path, bytes: await diskUsage(path), why: RUN_REASONS[run.state] } };
    }),
  );
}

const RUN_REASONS: Readonly<Record<FoundRun['state'], string>> = {
  live: 'it is in use',
  dead: 'the process that its VMs belonged to is gone',
  kept: 'its VMs were kept, and are to go now',
  warm: 'its VMs were kept for the next run, and are to go now',
};

const REST_REASONS: Readonly<Record<CacheRest['kind'], string>> = {
  'partial download': 'nobody has gone on with it',
  'incomplete image': 'its download was not finished',
  'temporary file': 'the process that wrote it is gone',
  'broken name': 'the image of this name is gone',
};

export interface RestFacts {
  /** VMs whose disks stand on it. */
  readonly users: readonly string[];
  /** Disks that do not tell what they stand on. */
  readonly unreadable: readonly string[];
  /** Milliseconds since the epoch; a partial download that is younger stays. */
  readonly partialsBefore: number;
}

/** Decides about a rest in the image cache. A file that a VM's disk stands on stays, however damaged it is. */
export function judgeCacheRest(rest: CacheRest, { users, unreadable, partialsBefore }: RestFacts): Verdict | null {
  const { kind, path, bytes } = rest;
  if (kind === 'incomplete image' && users.length > 0) {
    const what = `the image ${path} is not complete, and ${users.join(', ')} ${users.length === 1 ? 'stands' : 'stand'} on it`;
    return { trouble: { what, next: `vmctl destroy ${users.join(' ')}` } };
  }
  if (kind === 'incomplete image' && unreadable.length > 0) return null;
  if (kind === 'partial download' && rest.modifiedAt > partialsBefore) return null;
  return { garbage: { kind: 'download rest', rest, path, bytes, why: REST_REASONS[kind] } };
}

interface Surroundings {
  readonly view: RegistryView;
  readonly processes: readonly WorkProcess[];
}

/** Null for what is no directory of ours. */
export async function examineDirectory(
  env: World,
  entry: string,
  { view, processes }: Surroundings,
): Promise<DirectoryFacts | null> {
  const [, prefix, vm = ''] = /^(?:\.(staging|removing)-)?([a-zA-Z0-9][a-zA-Z0-9._-]{0,62})$/.exec(entry) ?? [];
  const path = join(env.paths.vms, entry);
  const found = await lstat(path).catch(() => null);
  if (vm === '' || found?.isDirectory() !== true) return null;
  const real = await realpath(path).catch(() => path);
  const known = view.entries.find(({ name }) => prefix === undefined && name === vm);
  const readable =
    known !== undefined &&
    (await env.registry.handle(known).then(
      () => true,
      () => false,
    ));
  return {
    path,
    vm,
    role: prefix === 'staging' || prefix === 'removing' ? prefix : 'vm',
    // An unreadable list may have had any VM.
    recorded: view.damaged || view.recorded.has(vm),
    readable,
    hasDisk: await exists(join(path, VM_FILES.overlay)),
    pid: processes.find(({ directory }) => directory === real)?.pid ?? null,
    busy: (await lockOwner(env.paths.vmLock(vm))) !== null,
    bytes: readable ? 0 : await diskUsage(path),
  };
}

async function judgeLocks(folder: string): Promise<readonly Verdict[]> {
  const why = 'the process that held it is gone';
  const found: Verdict[] = [];
  for (const path of await deadLocks(folder)) {
    found.push({ garbage: { kind: 'lock', path, bytes: await diskUsage(path), why } });
  }
  return found;
}
