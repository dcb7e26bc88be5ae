/**
 * What the language has and this version cannot do yet. A feature that lands deletes its row here, and nothing else
 * of the reader changes.
 */
import type { VmDefinition } from '../model/definition.js';
import type { Span } from '../model/source.js';

interface UnsupportedFeature {
  /** What it is, to come before "is not supported yet". */
  readonly what: string;
  /** What to do without it. */
  readonly instead: string;
  /** Where a VM uses it. */
  places(vm: VmDefinition): readonly (Span | undefined)[];
}

export const UNSUPPORTED: readonly UnsupportedFeature[] = [
  {
    what: '`ready`',
    instead: 'wait for it in a `provision "shell"`',
    places: ({ ready }) => [ready?.span],
  },
];
