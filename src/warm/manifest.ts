/** What is written down of a frozen VM beside its files, and whether these are still what they were. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FROZEN_FILES } from '../hypervisor/hypervisor.js';
import { isMissing, readTextIfPresent, writeFileAtomically } from '../util/fs.js';
import { type Components, FORMAT_VERSION } from './key.js';

const MANIFEST = 'manifest.json';

/** A file that is too large to be read again: another one, or one that was written to, has other facts. */
const factsSchema = v.object({ bytes: v.number(), modifiedMs: v.number(), inode: v.number() });

const manifestSchema = v.object({
  format: v.literal(FORMAT_VERSION),
  key: v.string(),
  level: v.picklist(['memory', 'disk']),
  /** The VM that was frozen, and the VMFile that it is of. */
  name: v.string(),
  project: v.nullable(v.string()),
  /** What the guest calls itself; null where nobody told it. */
  hostname: v.nullable(v.string()),
  mac: v.nullable(v.string()),
  /** An IPv4 address; null for one that was on no LAN. */
  lanAddress: v.nullable(v.string()),
  /** ISO 8601. */
  frozenAt: v.string(),
  components: v.record(v.string(), v.string()),
  /** A program waits at the guest's port for what it has to be told when it goes on. */
  listens: v.boolean(),
  /** The provision steps that had succeeded. */
  steps: v.array(v.object({ number: v.number(), digest: v.string() })),
  disk: factsSchema,
  /** Both null where only the disk was frozen. */
  memory: v.nullable(factsSchema),
  /** Small enough to be read: SHA-256 in hexadecimal. */
  stateDigest: v.nullable(v.string()),
});

export type Manifest = v.InferOutput<typeof manifestSchema>;

/** What is known before the files are looked at. */
export type Description = Omit<Manifest, 'format' | 'disk' | 'memory' | 'stateDigest' | 'components'> & {
  readonly components: Components;
};

/** Looks at the files in the folder and writes down what they are. */
export async function writeManifest(folder: string, description: Description): Promise<void> {
  const withMemory = description.level === 'memory';
  const manifest: Manifest = {
    ...description,
    format: FORMAT_VERSION,
    disk: await factsOf(join(folder, FROZEN_FILES.disk)),
    memory: withMemory ? await factsOf(join(folder, FROZEN_FILES.memory)) : null,
    stateDigest: withMemory ? await digestOfFile(join(folder, FROZEN_FILES.state)) : null,
  };
  await writeFileAtomically(join(folder, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Null where there is none, where it is unreadable, or where it is of another format. */
export async function readManifest(folder: string): Promise<Manifest | null> {
  const text = await readTextIfPresent(join(folder, MANIFEST)).catch(() => null);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), manifestSchema), text);
  return parsed.success ? parsed.output : null;
}

/** What is wrong with the files, in a few words; null where nothing is. The memory is not read: it may be large. */
export async function findDamage(folder: string, manifest: Manifest): Promise<string | null> {
  for (const name of ['disk', 'memory'] as const) {
    const expected = manifest[name];
    if (expected === null) continue;
    const path = join(folder, FROZEN_FILES[name]);
    const found = await factsOf(path).catch((error: unknown) => {
      if (isMissing(error)) return null;
      throw error;
    });
    if (found === null) return `its ${name} is gone`;
    const same = found.bytes === expected.bytes && found.modifiedMs === expected.modifiedMs;
    if (!same || found.inode !== expected.inode) return `its ${name} has changed since`;
  }
  if (manifest.stateDigest === null) return null;
  const digest = await digestOfFile(join(folder, FROZEN_FILES.state)).catch(() => null);
  return digest === manifest.stateDigest
    ? null
    : `the state of its devices ${digest === null ? 'is gone' : 'has changed since'}`;
}

async function factsOf(path: string): Promise<v.InferOutput<typeof factsSchema>> {
  const { size, mtimeMs, ino } = await stat(path);
  return { bytes: size, modifiedMs: Math.trunc(mtimeMs), inode: ino };
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}
