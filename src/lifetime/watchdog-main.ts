/**
 * The program `watchdog`: outlives the process that started it by as long as it takes to end that one's VMs.
 *
 * Its stdin is a pipe from its owner, and the kernel closes that however the owner ends: by exit, exception, signal or
 * `kill -9`. It is in a session of its own and heeds no signal that a terminal sends. Everything that it needs is
 * loaded at once: when its time comes, the files of the package may be gone.
 */
import { runPaths, statePaths } from '../paths.js';
import { readLease } from './lease.js';
import { reapRun } from './reap.js';

const [base = '', id = ''] = process.argv.slice(2);

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

// An owner that is gone already reads no more.
process.stdout.on('error', () => {}).write('ready\n');

const ownerIsGone = async (): Promise<void> => {
  const paths = runPaths(statePaths(base), id);
  const lease = await readLease(paths.root);
  // Handed over: the VMs stay.
  if (lease !== null && lease.bound !== 'owner') return;
  await reapRun(paths);
};

let begun = false;
const finish = (): void => {
  if (begun) return;
  begun = true;
  // What could not be removed has its lease still, and `vmctl gc` finds it.
  ownerIsGone().then(
    () => process.exit(0),
    () => process.exit(1),
  );
};

process.stdin.on('end', finish).on('close', finish).on('error', finish).resume();
