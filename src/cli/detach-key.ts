/** Ctrl-], the key that leaves a console, as a terminal in raw mode sends it (ASCII's group separator). */
export const DETACH_KEY = 0x1d;

export interface TypedInput {
  /** What was typed before the key, for the guest. */
  readonly before: Uint8Array;
  readonly detaches: boolean;
}

/** Splits what was typed at the first detach key; what follows it is for nobody. */
export function splitAtDetachKey(typed: Uint8Array): TypedInput {
  const at = typed.indexOf(DETACH_KEY);
  return at === -1 ? { before: typed, detaches: false } : { before: typed.subarray(0, at), detaches: true };
}
