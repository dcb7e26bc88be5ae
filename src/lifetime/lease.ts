/** Whose the VMs of a run are: the file that decides whether they are to go. */
import { join } from 'node:path';
import * as v from 'valibot';
import { RUN_FILES, type StatePaths } from '../paths.js';
import { readTextIfPresent, writeFileAtomically } from '../util/fs.js';
import { isSameProcess } from '../util/process.js';

const leaseSchema = v.object({
  schemaVersion: v.literal(1),
  /** The process that made the run, or that works with it now. */
  owner: v.nullable(v.object({ pid: v.number(), startTime: v.string(), command: v.string() })),
  /** `owner`: as long as its owner. `kept`: until somebody removes it. `warm`: the same, and the next run takes it over. */
  bound: v.picklist(['owner', 'kept', 'warm']),
  /** The VMFile; null for VMs declared in code. */
  project: v.nullable(v.string()),
  /** Of everything that the VMs were made from, for `warm`. */
  digest: v.nullable(v.string()),
  /** The state directory whose images the run uses. */
  base: v.string(),
  /** ISO 8601. */
  createdAt: v.string(),
});

export type Lease = Readonly<v.InferOutput<typeof leaseSchema>>;

/** `live` has an owner that lives, and `dead` one that does not. */
export type RunState = 'live' | 'kept' | 'warm' | 'dead';

/** Null where there is none, or it cannot be read. */
export async function readLease(root: string): Promise<Lease | null> {
  const text = await readTextIfPresent(join(root, RUN_FILES.lease));
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), leaseSchema), text);
  return parsed.success ? parsed.output : null;
}

export async function writeLease(paths: Pick<StatePaths, 'root'>, lease: Lease): Promise<void> {
  await writeFileAtomically(join(paths.root, RUN_FILES.lease), `${JSON.stringify(lease, null, 2)}\n`);
}

/** A directory without a lease was given up before it had one. */
export async function stateOf(lease: Lease | null): Promise<RunState> {
  if (lease === null) return 'dead';
  if (lease.owner !== null && (await isSameProcess(lease.owner))) return 'live';
  return lease.bound === 'owner' ? 'dead' : lease.bound;
}
