/**
 * What a VM has outside of its directory: a volume, that of its image, and a VNIC. Written down before any of it is made,
 * so that whatever happens to the rest, it can be removed.
 */
import { join } from 'node:path';
import * as v from 'valibot';
import { VM_FILES } from '../../paths.js';
import { readTextIfPresent, writeFileAtomically } from '../../util/fs.js';

const partsSchema = v.object({
  uuid: v.string(),
  base: v.string(),
  disk: v.string(),
  vnic: v.nullable(v.object({ name: v.string(), mac: v.string() })),
  /** What the user's own network-config gives the guest; null where it asks for one. */
  address: v.nullable(v.string()),
});

export type Parts = v.InferOutput<typeof partsSchema>;

export async function writeParts(directory: string, parts: Parts): Promise<void> {
  await writeFileAtomically(join(directory, VM_FILES.propolisParts), `${JSON.stringify(parts, null, 2)}\n`);
}

/** Null where nothing was written down, or it cannot be read. */
export async function readParts(directory: string): Promise<Parts | null> {
  const text = await readTextIfPresent(join(directory, VM_FILES.propolisParts)).catch(() => null);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), partsSchema), text);
  return parsed.success ? parsed.output : null;
}

/** The first IPv4 address that a network-config gives to a card, such as `addresses: [10.0.0.5/24]`. */
export function staticAddress(networkConfig: string | null): string | null {
  const lines = (networkConfig ?? '').split('\n').map((line) => line.replace(/(?:^|\s)#.*$/, ''));
  const start = lines.findIndex((line) => /^\s*(?:-\s*)?(?:addresses|address)\s*:/.test(line));
  if (start < 0) return null;
  // A route has a prefix too, and comes after the addresses.
  const [, rest = ''] = (lines[start] ?? '').split(/:(.*)/s);
  const block = [rest, ...takeItems(lines.slice(start + 1))].join('\n');
  return /\b((?:\d{1,3}\.){3}\d{1,3})(?:\/\d{1,2})?\b/.exec(block)?.[1] ?? null;
}

function takeItems(lines: readonly string[]): readonly string[] {
  const end = lines.findIndex((line) => line.trim() !== '' && !/^\s*(?:-|\]|["'\d])/.test(line));
  return end < 0 ? lines : lines.slice(0, end);
}
