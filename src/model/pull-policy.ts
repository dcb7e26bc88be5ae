/** When the place that an image comes from is asked: also for an image that is there, only for one that is not, or never. */
export const PULL_POLICIES = ['always', 'missing', 'never'] as const;

export type PullPolicy = (typeof PULL_POLICIES)[number];
