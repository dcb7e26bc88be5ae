/** Starts programs and writes files. */
import { startDetached } from '../../../src/util/exec.js';
import { writeFileAtomically } from '../../../src/util/fs.js';
import { serve } from './serve.js';

async function launch(script: string, cwd: string, logFile: string): Promise<number> {
  return (await startDetached('sh', ['-c', script], { cwd, logFile })).pid;
}

/** Writes the one text and the other until it is killed. */
async function rewrite(path: string, one: string, other: string): Promise<void> {
  for (;;) {
    await writeFileAtomically(path, one);
    await writeFileAtomically(path, other);
  }
}

serve({ launch, rewrite });
