/** What a step does, as one digest: when it differs, the step has changed. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProvisionStep } from '../model/spec.js';

/** Of a large file few large pieces are read: hashing 64 KiB takes less time than getting them. */
const LEAST_PIECE_BYTES = 64 * 1024;
const MOST_PIECE_BYTES = 1024 * 1024;

/**
 * SHA-256 in hexadecimal over the step's commands, variables and destination and the contents, names and modes of its
 * files; not over its `run` and `timeout`, which change nothing in the guest. Null where a file cannot be read.
 */
export async function stepDigest(step: ProvisionStep): Promise<string | null> {
  const hash = createHash('sha256');
  try {
    await addStep(hash, step);
  } catch {
    // Whoever runs the step says what is wrong with the file.
    return null;
  }
  return hash.digest('hex');
}

async function addStep(hash: Hash, step: ProvisionStep): Promise<void> {
  if (step.kind === 'file') {
    add(hash, ['file', step.destination]);
    // The source itself may be a symbolic link; what it leads to is copied.
    await addPath(hash, step.source, await stat(step.source));
    return;
  }
  const variables = Object.entries(step.environment).toSorted(([a], [b]) => (a < b ? -1 : 1));
  add(hash, ['shell', ...variables.flat()]);
  if (step.command.kind === 'inline') add(hash, ['inline', step.command.text]);
  else {
    add(hash, ['script']);
    await addPath(hash, step.command.path, await stat(step.command.path));
  }
}

async function addPath(hash: Hash, path: string, found: Awaited<ReturnType<typeof lstat>>): Promise<void> {
  const mode = (Number(found.mode) & 0o7777).toString(8);
  if (found.isSymbolicLink()) add(hash, ['link', await readlink(path)]);
  else if (found.isDirectory()) {
    const names = (await readdir(path)).toSorted((a, b) => (a < b ? -1 : 1));
    add(hash, ['folder', mode, String(names.length)]);
    for (const name of names) {
      add(hash, [name]);
      await addPath(hash, join(path, name), await lstat(join(path, name)));
    }
  } else {
    add(hash, ['content', mode, String(found.size)]);
    if (!found.isFile()) return;
    const highWaterMark = Math.min(Math.max(Number(found.size), LEAST_PIECE_BYTES), MOST_PIECE_BYTES);
    for await (const chunk of createReadStream(path, { highWaterMark })) hash.update(chunk);
  }
}

/** Each word with its length before it, so that no two lists of words are the same bytes. */
function add(hash: Hash, words: readonly string[]): void {
  for (const word of words) hash.update(`${Buffer.byteLength(word)}:${word}\n`);
}
