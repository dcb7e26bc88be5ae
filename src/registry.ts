/**
 * Which VMs exist, and what happened to them.
 *
 * `vms.json` maps names to work directories. It is memory, not truth: every reading holds it against the directories,
 * a directory that it does not know is taken in, even where its files are damaged, and an entry without a directory is
 * left out. What changes during a VM's life is in the VM's own `record.json`, so a thousand VMs do not queue for one
 * file. Writers hold the VM's lock; `vms.json` itself is written under a lock of its own, atomically, and for all
 * waiting callers of a process at once.
 */
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { VmctlError, type VmctlErrorJson } from './errors.js';
import type { Step } from './model/event.js';
import type { ReadySpec, StepSuccess } from './model/spec.js';
import type { VmHandle } from './model/vm.js';
import { type StatePaths, VM_FILES } from './paths.js';
import {
  exists,
  isFull,
  isMissing,
  makeDirectory,
  readTextIfPresent,
  stateDirectoryError,
  writeFileAtomically,
} from './util/fs.js';
import { withLock } from './util/lock.js';
import {
  VM_NAME,
  type entrySchema,
  handleSchema,
  recordSchema,
  registrySchema,
  remainsSchema,
} from './registry-schema.js';

/** A VM as the registry knows it. */
export type RegistryEntry = v.InferOutput<typeof entrySchema>;

/** How far a VM was provisioned since its last start, and why it failed last. */
export interface VmRecord {
  readonly provisioning: 'pending' | 'done' | 'failed';
  /** The steps that succeeded at some time since the VM was made, each as it was when it last did. */
  readonly steps: readonly StepSuccess[];
  /** What is waited for before it counts as up, by its last `up`; null where that is nothing. Absent before the first. */
  readonly ready?: ReadyRecord | null | undefined;
  /** Where to find what its console has printed since its guest booted. Absent before the first start. */
  readonly consoleStart?: ConsoleStart | undefined;
  /** The lines of its LAN that its hosts file was given last; null where it was given none. */
  readonly hosts: readonly string[] | null;
  /** The frozen VM that its disk stands on; not settled while it is being restored. Null where it was made otherwise. */
  readonly warm: { readonly key: string; readonly settled: boolean } | null;
  readonly lastFailure: { readonly step: Step; readonly time: string; readonly error: VmctlErrorJson } | null;
}

export interface ReadyRecord extends ReadySpec {
  /** When all of it was first seen to hold since the last start, in ISO 8601; null: not yet. */
  readonly since: string | null;
}

export interface ConsoleStart {
  /** How much of its console log is of before its last start, in bytes. */
  readonly from: number;
  /** The frozen VM whose memory it goes on from, and which has printed the lines before those; null where it has booted. */
  readonly frozen: string | null;
}

const FRESH_RECORD: VmRecord = { provisioning: 'pending', steps: [], hosts: null, warm: null, lastFailure: null };

/** The text of a record that differs in this from one of a VM that was just made. */
export function recordText(change: Partial<VmRecord>): string {
  return `${JSON.stringify({ ...FRESH_RECORD, ...change })}\n`;
}

/** The registry held against the directories. */
export interface RegistryView {
  /** Every VM, those included that only their directory tells of. */
  readonly entries: readonly RegistryEntry[];
  /** The names that are written down. */
  readonly recorded: ReadonlySet<string>;
  /** Names that are written down, and whose directory is gone. */
  readonly gone: readonly string[];
  /** The file itself cannot be read. */
  readonly damaged: boolean;
}

export interface RegistryOptions {
  readonly paths: StatePaths;
  /** What this process is doing, for others who wait for the lock. */
  readonly command: string;
  /** Told once for each repair. */
  readonly onNote?: (text: string) => void;
  readonly clock?: () => Date;
}

type Entries = Map<string, RegistryEntry>;
type Change = (entries: Entries) => void;

const UNCHANGED = { locked: false, changes: [] } as const;

export class Registry {
  readonly #options: RegistryOptions;
  #known: { readonly version: string; readonly entries: Promise<Entries | null> } | null = null;
  #waiting: Change[] = [];
  #next: Promise<void> | null = null;
  #last: Promise<void> = Promise.resolve();

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /** All VMs, by name. */
  async list(): Promise<readonly RegistryEntry[]> {
    const entries = await this.#read();
    return [...entries.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Looks at this VM's directory alone, so that asking for each of many VMs costs no more for each. */
  async get(name: string): Promise<RegistryEntry | null> {
    const { paths } = this.#options;
    const recorded = VM_NAME.test(name) ? await this.#recorded() : null;
    // A damaged list is repaired, which takes them all.
    if (recorded === null) return (await this.#read()).get(name) ?? null;
    const directory = paths.vm(name);
    const known = (await exists(directory)) ? (recorded.get(name) ?? (await adopt(name, directory))) : null;
    return known === null ? null : { ...known, directory };
  }

  /** What is written down, read anew only when it was written anew; null where it cannot be read. */
  async #recorded(): Promise<Entries | null> {
    const { paths } = this.#options;
    const version = await versionOf(paths.registry);
    // Kept before it is read, so that many who ask at once read it once.
    if (this.#known?.version !== version) this.#known = { version, entries: this.#parse() };
    return this.#known.entries;
  }

  /** What there is, without repairing anything: for looking at a state directory as it is. */
  async look(): Promise<RegistryView> {
    const { paths } = this.#options;
    const text = await readTextIfPresent(paths.registry);
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), registrySchema), text);
    const recorded = new Map(parsed.success ? Object.entries(parsed.output.vms) : []);
    const entries = await this.#compareWithDirectories(recorded);
    return {
      entries: [...entries.values()],
      recorded: new Set(recorded.keys()),
      gone: [...recorded.keys()].filter((name) => !entries.has(name)),
      damaged: text !== null && !parsed.success,
    };
  }

  /** Records a VM that was just prepared. */
  async add(handle: VmHandle): Promise<void> {
    const entry = entryOf(handle);
    await this.#update((entries) => void entries.set(entry.name, entry));
  }

  /**
   * Forgets a VM whose directory is gone. Where there is no space left to write that down, the next write does: until
   * then every reading leaves it out, and removing, which makes space, does not fail over it.
   */
  async remove(name: string): Promise<void> {
    try {
      await this.#update((entries) => void entries.delete(name));
    } catch (error) {
      if (!isFull(error)) throw error;
    }
  }

  /**
   * What was prepared. Throws `VM_DAMAGED` when its file cannot be read, or is that of another VM, and `VM_NOT_FOUND`
   * when somebody has removed the VM since it was looked up: who holds no lock has to reckon with that.
   */
  async handle(entry: RegistryEntry): Promise<VmHandle> {
    const { path, text, isGone } = await readHandle(entry.directory);
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), handleSchema), text);
    if (parsed.success && parsed.output.name === entry.name) return { ...parsed.output, directory: entry.directory };
    const unreadable = text === null ? 'is missing' : 'is unreadable';
    if (isGone) {
      throw new VmctlError('VM_NOT_FOUND', `there is no VM "${entry.name}" any more: it was removed just now`, {
        fields: { vm: entry.name },
      });
    }
    const problem = parsed.success ? `is that of VM "${parsed.output.name}"` : unreadable;
    throw new VmctlError('VM_DAMAGED', `VM "${entry.name}" is damaged: ${path} ${problem}`, {
      hint: `Remove what is left of it with: vmctl destroy ${entry.name}`,
      fields: { vm: entry.name, path },
    });
  }

  async record(entry: RegistryEntry): Promise<VmRecord> {
    const text = await readTextIfPresent(join(entry.directory, VM_FILES.record));
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), recordSchema), text);
    return parsed.success ? parsed.output : FRESH_RECORD;
  }

  /** Changes some of a VM's record. The caller holds the VM's lock. */
  async updateRecord(entry: RegistryEntry, change: Partial<VmRecord>): Promise<void> {
    const before = await this.record(entry);
    const record = { ...before, ...change };
    // What is not there says the same as a fresh record.
    if (isDeepStrictEqual(record, before)) return;
    const { durable } = this.#options.paths;
    await writeFileAtomically(join(entry.directory, VM_FILES.record), recordText(record), { durable });
  }

  /** Queues a change. A write that has not begun yet takes it along, so waiting callers share one write. */
  #update(change: Change): Promise<void> {
    this.#waiting.push(change);
    this.#next ??= this.#last.then(() => this.#writeWaiting());
    const next = this.#next;
    this.#last = next.catch(() => {});
    return next;
  }

  async #writeWaiting(): Promise<void> {
    const { paths, command } = this.#options;
    let changes: readonly Change[] | null = null;
    try {
      await withLock(paths.registryLock, { command }, async () => {
        const taken = this.#takeWaiting();
        changes = taken;
        const entries = await this.#read({ locked: true, changes: taken });
        await writeRegistry(paths, entries);
        this.#known = { version: await versionOf(paths.registry), entries: Promise.resolve(entries) };
      });
    } catch (error) {
      // Those who wait for this write are told of its failure, and nobody else: a change is never lost in silence.
      if (changes === null) this.#takeWaiting();
      throw error;
    }
  }

  /** From here on, callers wait for the next write. */
  #takeWaiting(): readonly Change[] {
    const changes = this.#waiting;
    this.#waiting = [];
    this.#next = null;
    return changes;
  }

  /** `changes` are made to what is written down first, so that a VM that is being recorded is not looked at as unknown. */
  async #read(state: { readonly locked: boolean; readonly changes: readonly Change[] } = UNCHANGED): Promise<Entries> {
    const recorded = await this.#parse();
    for (const change of state.changes) change(recorded ?? new Map());
    const entries = await (recorded === null ? this.#rebuild(state) : this.#compareWithDirectories(recorded));
    for (const change of state.changes) change(entries);
    return entries;
  }

  /** What is written down; null where it cannot be read. */
  async #parse(): Promise<Entries | null> {
    const text = await readTextIfPresent(this.#options.paths.registry);
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), registrySchema), text);
    if (text !== null && !parsed.success) return null;
    const recorded = parsed.success ? Object.values(parsed.output.vms) : [];
    return new Map(recorded.map((entry) => [entry.name, entry]));
  }

  /** What is recorded, less what is gone, plus what is there and was not recorded. */
  async #compareWithDirectories(recorded: Entries): Promise<Entries> {
    const { paths } = this.#options;
    const names = await directoryNames(paths.vms);
    const entries: Entries = new Map();
    for (const entry of await Promise.all(
      names.map(async (name) => recorded.get(name) ?? adopt(name, paths.vm(name))),
    )) {
      if (entry !== null) entries.set(entry.name, { ...entry, directory: paths.vm(entry.name) });
    }
    return entries;
  }

  /** Sets the damaged file aside under another name and makes a new one from the directories. */
  async #rebuild(state: { locked: boolean }): Promise<Entries> {
    const { paths, command } = this.#options;
    const repair = async (): Promise<Entries> => {
      const text = await readTextIfPresent(paths.registry);
      const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), registrySchema), text);
      if (parsed.success) return this.#read({ locked: true, changes: [] });
      const entries = await this.#compareWithDirectories(new Map());
      if (text !== null) await this.#setAside();
      await writeRegistry(paths, entries).catch((error: unknown) => {
        // Without the file it is the directories that tell, until there is space for it again.
        if (!isFull(error)) throw error;
      });
      return entries;
    };
    return state.locked ? repair() : withLock(paths.registryLock, { command }, repair);
  }

  async #setAside(): Promise<void> {
    const { paths, onNote, clock = () => new Date() } = this.#options;
    const first = `${paths.registry}.damaged-${clock().toISOString().replaceAll(/[:.]/g, '-')}`;
    let aside = first;
    for (let count = 2; await exists(aside); count += 1) aside = `${first}-${count}`;
    await rename(paths.registry, aside);
    onNote?.(`${paths.registry} was damaged; it is now ${aside}, and the list of VMs was rebuilt from ${paths.vms}`);
  }
}

/** What `versionOf` says where there is nothing. */
const NO_FILE = 'none';

/** Differs after each writing, because that replaces the file by another one. */
async function versionOf(path: string): Promise<string> {
  try {
    const { ino, mtimeNs, size } = await stat(path, { bigint: true });
    return `${ino} ${mtimeNs} ${size}`;
  } catch (error) {
    if (isMissing(error)) return NO_FILE;
    throw stateDirectoryError('read', path, error);
  }
}

/**
 * The text of the file in which a VM's directory says what the VM is. Others remove the directory and make it anew, by
 * renames, while it is looked at: so a file counts as missing where the directory was the same before and after.
 */
async function readHandle(directory: string) {
  const path = join(directory, VM_FILES.handle);
  let before: string | null = null;
  for (;;) {
    const text = await readTextIfPresent(path);
    if (text !== null) return { path, text, isGone: false };
    const now = await versionOf(directory);
    if (now === NO_FILE || now === before) return { path, text, isGone: now === NO_FILE };
    before = now;
  }
}

function entryOf(handle: VmHandle): RegistryEntry {
  const { name, backend, directory, spec, createdAt } = handle;
  return { name, group: spec.group?.name ?? null, backend, directory, project: spec.project, createdAt };
}

/**
 * A directory that vms.json does not know: a vmctl was killed between making and recording it, or vms.json is lost.
 * Where its handle is damaged as well, what can still be read of it is taken, so that the VM can at least be removed.
 */
async function adopt(name: string, directory: string): Promise<RegistryEntry | null> {
  const made = await stat(directory).catch(() => null);
  if (made?.isDirectory() !== true) return null;
  const { text } = await readHandle(directory).catch(() => ({ text: null }));
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), remainsSchema), text);
  const remains = parsed.success ? parsed.output : {};
  return {
    name,
    group: remains.spec?.group?.name ?? null,
    // Of all backends QEMU's looks hardest for a process that may still run there.
    backend: remains.backend ?? 'qemu',
    directory,
    project: remains.spec?.project ?? null,
    createdAt: remains.createdAt ?? made.birthtime.toISOString(),
  };
}

/** Written under the registry's lock, so every temporary file beside it is that of a killed process. */
async function writeRegistry(paths: StatePaths, entries: Entries): Promise<void> {
  await makeDirectory(paths.root);
  for (const name of await readdir(paths.root)) {
    const path = join(paths.root, name);
    if (path.startsWith(`${paths.registry}.`) && path.endsWith('.tmp')) await rm(path, { force: true });
  }
  const registry = { schemaVersion: 1, vms: Object.fromEntries(entries) };
  const { durable } = paths;
  await writeFileAtomically(paths.registry, `${JSON.stringify(registry, null, 2)}\n`, { durable });
}

async function directoryNames(path: string): Promise<readonly string[]> {
  try {
    return (await readdir(path)).filter((name) => VM_NAME.test(name));
  } catch (error) {
    if (isMissing(error)) return [];
    throw stateDirectoryError('read', path, error);
  }
}
