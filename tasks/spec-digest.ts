/** What VMs are made of, as one digest: while it stays the same, VMs that are up already are as good as new ones. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { VmSpec } from '../src/model/spec.js';
import { stepDigest } from '../src/provision/step-digest.js';

/** Over all specs and the contents of their files; an image counts by its path, size and time of change. */
export async function specDigest(specs: readonly VmSpec[]): Promise<string> {
  const hash = createHash('sha256');
  for (const declared of specs) {
    // Whether it is ready is looked at by every `up`, so that another `ready` needs no other VM.
    const spec = { ...declared, ready: null };
    const steps = await Promise.all(spec.provision.map(stepDigest));
    hash.update(JSON.stringify([spec, steps, await imageFacts(spec), await cloudInitFiles(spec)]));
  }
  return hash.digest('hex');
}

async function imageFacts({ image }: VmSpec): Promise<readonly number[] | null> {
  if (image.kind !== 'file') return null;
  const found = await stat(image.path).catch(() => null);
  return found === null ? null : [found.size, found.mtimeMs];
}

async function cloudInitFiles({ cloudInit }: VmSpec): Promise<readonly (string | null)[]> {
  if (cloudInit === null) return [];
  const { userData, networkConfig } = cloudInit;
  const paths = [...(userData.kind === 'generated-key' ? [] : [userData.path]), networkConfig];
  return Promise.all(paths.map(async (path) => (path === null ? null : readFile(path, 'base64').catch(() => null))));
}
