/** Which downloaded images are to go. Pure. */
import { counted } from '../src/util/words.js';

/** An image as the decision sees it. */
export interface ImageFacts {
  readonly path: string;
  /** On the disk. */
  readonly bytes: number;
  /** Milliseconds since the epoch. */
  readonly lastUsedAt: number;
  /** Names that somebody gave it. */
  readonly names: readonly string[];
  /** VMs that stand on it. */
  readonly users: readonly string[];
}

export interface ImagePolicy {
  /** Images that were not used for so many seconds go; null for no such limit. */
  readonly olderThanSeconds: number | null;
  /** Images that were not used for longest go until the others take no more than so many bytes; null for no limit. */
  readonly budgetBytes: number | null;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /**
   * When the longest-running vmctl took the lock of a VM, in milliseconds since the epoch; null when none runs. What
   * was used since then may be about to get a disk that stands on it.
   */
  readonly busySince: number | null;
}

export interface DoomedImage {
  readonly path: string;
  readonly bytes: number;
  readonly why: string;
  /** Milliseconds since the epoch; when it has changed, somebody has used the image since the decision. */
  readonly lastUsedAt: number;
}

export interface ImageDecision {
  readonly doomed: readonly DoomedImage[];
  /** Bytes by which the cache stays over its budget, because what is left is needed. */
  readonly overBudgetBytes: number;
}

/** Decides. An image with a VM on it, with a name, or in the hands of a running vmctl always stays. */
export function chooseImages(images: readonly ImageFacts[], policy: ImagePolicy): ImageDecision {
  const doomed = new Map<string, DoomedImage>();
  const { olderThanSeconds, budgetBytes, now } = policy;
  const removable = images
    .filter((image) => isRemovable(image, policy))
    .toSorted((a, b) => a.lastUsedAt - b.lastUsedAt);
  for (const { path, bytes, lastUsedAt } of removable) {
    if (olderThanSeconds === null || now - lastUsedAt <= olderThanSeconds * 1000) continue;
    doomed.set(path, { path, bytes, lastUsedAt, why: `no VM has used it for ${ageText(now - lastUsedAt)}` });
  }
  let total = 0;
  for (const { path, bytes } of images) total += doomed.has(path) ? 0 : bytes;
  for (const { path, bytes, lastUsedAt } of removable) {
    if (budgetBytes === null || total <= budgetBytes) break;
    if (doomed.has(path)) continue;
    total -= bytes;
    const age = ageText(Math.max(0, now - lastUsedAt));
    doomed.set(path, {
      path,
      bytes,
      lastUsedAt,
      why: `the cache is over its budget, and no VM has used it for ${age}`,
    });
  }
  const overBudgetBytes = budgetBytes === null ? 0 : Math.max(0, total - budgetBytes);
  return { doomed: [...doomed.values()], overBudgetBytes };
}

function isRemovable({ users, names, lastUsedAt }: ImageFacts, { busySince }: ImagePolicy): boolean {
  if (users.length > 0 || names.length > 0) return false;
  return busySince === null || lastUsedAt < busySince;
}

const UNITS = [
  [86_400_000, 'day'],
  [3_600_000, 'hour'],
  [60_000, 'minute'],
] as const;

/** `45 days`, `1 hour`: rounded down. */
export function ageText(milliseconds: number): string {
  for (const [size, name] of UNITS) {
    const count = Math.floor(milliseconds / size);
    if (count > 0) return counted(count, name);
  }
  return 'less than a minute';
}
