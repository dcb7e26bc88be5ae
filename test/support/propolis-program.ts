/** The fake propolis-server as a program that can be started, and the bootrom through which it is told how to behave. */
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { FakeOptions } from './propolis-server.js';

export interface ServerBehaviour extends Omit<FakeOptions, 'exists' | 'log' | 'onBody'> {
  /** The file with the names of all volumes and VNICs. */
  readonly world: string;
  /** It prints this and ends at once. */
  readonly refuses?: string;
  readonly ignoresSigterm?: boolean;
  /** The file that takes every request with a body, as a line of JSON each: the request and the body. */
  readonly bodies?: string;
}

let built: Promise<string> | null = null;

/** Writes the program into a folder; gives its path. */
export async function writeServerProgram(folder: string): Promise<string> {
  built ??= bundle();
  const path = join(folder, 'propolis-server');
  await writeFile(path, await built);
  await chmod(path, 0o755);
  return path;
}

async function bundle(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('propolis-server-main.ts', import.meta.url))],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    // A CommonJS file needs no name that says what it is.
    banner: { js: '#!/usr/bin/env node' },
  });
  return outputFiles[0]?.text ?? '';
}

/** Real ones have whole pages. */
const PAGE_BYTES = 4096;

export async function writeBootrom(path: string, behaviour: ServerBehaviour): Promise<void> {
  await writeFile(path, JSON.stringify(behaviour).padEnd(PAGE_BYTES));
}
