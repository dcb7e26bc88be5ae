/** What every check of this host is made with. */

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

/** A check that found nothing amiss. */
export function ok(id: string, title: string, found: string): Check {
  return { id, title, result: 'ok', found, next: [] };
}

/** Compares versions number by number; what is missing counts as 0. */
export function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number));
  for (const [index, wanted] of (b ?? []).entries()) {
    const given = a?.[index] ?? 0;
    if (given !== wanted) return given < wanted;
  }
  return false;
}
