/** Runs command lines on the Noop backend, and writes down each change to a VM before it is made. */
import { appendFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { Rig, type RunResult } from '../../support/rig.js';
import { serve } from './serve.js';

/** One line a change: what, to which VM, by whom. The VM's lock is held then, so its lines are in their true order. */
async function run(root: string, journal: string, words: readonly string[]): Promise<RunResult> {
  const rig = Rig.join(root, {
    before: async (operation, name) => {
      await appendFile(journal, `${operation} ${name} ${process.pid}\n`);
      await pause(Math.random() * 4);
    },
  });
  return rig.vmctl(words);
}

serve({ run });
