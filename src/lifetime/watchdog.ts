/** Starts the watchdog of a run. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { VmctlError } from '../errors.js';
import type { StatePaths } from '../paths.js';
import { type Watcher, startWatcher } from '../util/exec.js';

/** Where the built watchdog is, seen from an entry of the package, from a chunk of it, and from the sources. */
const PLACES = ['./watchdog.js', '../watchdog.js', '../../dist/watchdog.js'] as const;

/** From now on, the end of this process is the end of the run. */
export async function startWatchdog(base: StatePaths, id: string): Promise<Watcher> {
  const script = PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url))).find((path) => existsSync(path));
  if (script !== undefined) return startWatcher(script, [base.root, id]);
  throw new VmctlError('INTERNAL', 'Internal error: the watchdog is missing from the package', {
    hint: 'Install vmctl again; in a clone of its repository, run: npm run build',
  });
}
