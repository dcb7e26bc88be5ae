/** The entrance of the API: the one place that takes the outside world as it is, unless it is handed another one. */
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import type { RouterHypervisor } from '../hypervisor/router.js';

export interface Outside {
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly cwd: string;
  /** For others who wait for a lock, and for `vmctl list --all`. */
  readonly command: string;
  /** Takes the place of this package's backends in tests. */
  readonly hypervisor?: RouterHypervisor | undefined;
}

/** The world of this process, with another current folder where one is given. */
export function outsideOf({ cwd }: { readonly cwd?: string | undefined }): Outside {
  const here = process.cwd();
  return {
    variables: process.env,
    home: homedir(),
    cwd: cwd === undefined ? here : resolve(here, cwd),
    command: process.argv.slice(0, 3).map(shortName).join(' '),
  };
}

/** `node vitest run` says more than two long paths. */
function shortName(word: string): string {
  return word.slice(word.lastIndexOf('/') + 1);
}
