import { chmod, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { FileStep, ShellStep } from '../../src/model/spec.js';
import { stepDigest } from '../../src/provision/step-digest.js';
import { temporaryDirectory } from '../support/fixtures.js';

function inline(text: string, changes: Partial<ShellStep> = {}): ShellStep {
  const command = { kind: 'inline', text } as const;
  return { kind: 'shell', command, environment: {}, run: 'on-change', timeoutSeconds: null, ...changes };
}

function file(source: string, destination = '/tmp/x'): FileStep {
  return { kind: 'file', source, destination, run: 'on-change', timeoutSeconds: null };
}

describe('the digest of commands', () => {
  it('is that of the text and the variables', async () => {
    const digest = await stepDigest(inline('a', { environment: { A: '1', B: '2' } }));
    expect(digest).toMatch(/^[0-9a-f]{64}$/);
    expect(await stepDigest(inline('a', { environment: { B: '2', A: '1' } }))).toBe(digest);
    for (const other of [
      inline('b', { environment: { A: '1', B: '2' } }),
      inline('a', { environment: { A: '2', B: '2' } }),
      inline('a'),
    ]) {
      expect(await stepDigest(other)).not.toBe(digest);
    }
  });

  it('does not change with when and how long they may run', async () => {
    expect(await stepDigest(inline('a', { run: 'once', timeoutSeconds: 5 }))).toBe(await stepDigest(inline('a')));
  });

  it('does not take a variable for commands', async () => {
    expect(await stepDigest(inline('x', { environment: { inline: 'y' } }))).not.toBe(await stepDigest(inline('y')));
  });

  it('is that of a script’s contents', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'setup.sh');
    const step: ShellStep = { ...inline(''), command: { kind: 'script', path } };
    expect(await stepDigest(step)).toBeNull();
    await writeFile(path, 'one');
    const one = await stepDigest(step);
    await writeFile(path, 'two');
    expect(await stepDigest(step)).not.toBe(one);
    await writeFile(path, 'one');
    expect(await stepDigest(step)).toBe(one);
  });
});

describe('the digest of a file or folder', () => {
  it('changes with the contents, the mode and the destination', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'file');
    await writeFile(path, 'x', { mode: 0o644 });
    const digest = await stepDigest(file(path));
    expect(await stepDigest(file(path, '/tmp/y'))).not.toBe(digest);
    await chmod(path, 0o755);
    expect(await stepDigest(file(path))).not.toBe(digest);
    await chmod(path, 0o644);
    expect(await stepDigest(file(path))).toBe(digest);
    await writeFile(path, 'y');
    expect(await stepDigest(file(path))).not.toBe(digest);
  });

  it('changes with everything in a folder', async () => {
    await using directory = await temporaryDirectory();
    const folder = join(directory.path, 'folder');
    await mkdir(join(folder, 'deep'), { recursive: true });
    await writeFile(join(folder, 'deep', 'a'), 'a');
    const seen = new Set([await stepDigest(file(folder))]);
    const changes = [
      () => writeFile(join(folder, 'deep', 'a'), 'b'),
      () => rename(join(folder, 'deep', 'a'), join(folder, 'deep', 'c')),
      () => rename(join(folder, 'deep', 'c'), join(folder, 'c')),
      () => symlink('c', join(folder, 'link')),
      () => rm(join(folder, 'deep'), { recursive: true }),
      () => chmod(folder, 0o700),
    ];
    for (const change of changes) {
      await change();
      const digest = await stepDigest(file(folder));
      expect(seen).not.toContain(digest);
      seen.add(digest);
    }
    expect(seen).not.toContain(null);
  });
});
