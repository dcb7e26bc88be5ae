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
    what: '`lan`',
    instead: 'use `forward` and the address 10.0.2.2, which is the host',
    places: ({ network }) => [network?.value.kind === 'user' ? network.value.lan?.span : undefined],
  },
  {
    what: '`warm`',
    instead: 'leave it out',
    places: ({ warm }) => [warm === undefined || warm.value === 'off' ? undefined : warm.span],
  },
  {
    what: '`count` above 1',
    instead: 'write one `vm` for each',
    places: ({ count }) => [count !== undefined && count.value > 1 ? count.span : undefined],
  },
];
