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
