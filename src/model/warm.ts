/** What of a provisioned VM the next `up` starts from. */

/** Its memory and disk; its disk alone, so that the guest boots; or nothing. */
export const WARM_LEVELS = ['memory', 'disk', 'off'] as const;

/** Under what a frozen VM is kept: a digest, see `warm/key.ts`. */
export const FROZEN_KEY = /^[0-9a-f]{32}$/;

export type WarmLevel = (typeof WARM_LEVELS)[number];

/** How a VM that is to be made will begin. */
export interface WarmOutlook {
  /** What was asked for, as far as this VM can have it. */
  readonly level: WarmLevel;
  /** Why it cannot have all that was asked for; null where it can. */
  readonly less: string | null;
  /** Whether it starts from a frozen VM. */
  readonly hit: boolean;
  /** In a few words: when that was frozen, or why there is none. */
  readonly reason: string;
}
