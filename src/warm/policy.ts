/** Which frozen VMs are to go. Pure. */

export interface FrozenFacts {
  readonly key: string;
  readonly bytes: number;
  /** Milliseconds since the epoch. */
  readonly lastUsedAt: number;
  /** It cannot be used any more. */
  readonly broken: boolean;
  /** VMs whose disks stand on it. */
  readonly users: readonly string[];
}

export interface WarmPolicy {
  /** Those that no VM was started from for so many seconds go; null for no such limit. */
  readonly olderThanSeconds: number | null;
  /** Those that were used longest ago go until the others take no more than so many bytes; null for no limit. */
  readonly budgetBytes: number | null;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface DoomedFrozen {
  readonly key: string;
  readonly bytes: number;
  readonly why: string;
}

/** One that a VM stands on always stays, even where it is broken: its disk may still be whole. */
export function chooseFrozen(all: readonly FrozenFacts[], policy: WarmPolicy): readonly DoomedFrozen[] {
  const { olderThanSeconds, budgetBytes, now } = policy;
  const removable = all.filter(({ users }) => users.length === 0).toSorted((a, b) => a.lastUsedAt - b.lastUsedAt);
  const doomed = new Map<string, DoomedFrozen>();
  const condemn = ({ key, bytes }: FrozenFacts, why: string) => doomed.set(key, { key, bytes, why });
  for (const frozen of removable) {
    const old = olderThanSeconds !== null && now - frozen.lastUsedAt >= olderThanSeconds * 1000;
    if (frozen.broken) condemn(frozen, 'it cannot be used any more');
    else if (old) condemn(frozen, 'no VM was started from it for so long');
  }
  let total = 0;
  for (const { key, bytes } of all) total += doomed.has(key) ? 0 : bytes;
  for (const frozen of removable) {
    if (budgetBytes === null || total <= budgetBytes) break;
    if (doomed.has(frozen.key)) continue;
    total -= frozen.bytes;
    condemn(frozen, 'all together are over their budget, and it was used longest ago');
  }
  return [...doomed.values()];
}
