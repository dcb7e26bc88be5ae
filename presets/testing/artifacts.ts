/** What a failing test leaves of its VMs, for whoever looks for the reason when they are gone. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AttachedFleetMembers, RunningVm } from '../../src/index.js';

export interface FailedTest {
  /** Absolute path of the artefacts of all tests. */
  readonly folder: string;
  /** The test's file, relative to the project, and its name with those of its suites. */
  readonly file: string;
  readonly name: string;
}

/** A guest that hangs must not hold up the tests after this one. */
const DEADLINE_MS = 20_000;

/**
 * Writes console log, provision log, status and screen of each VM into a folder of the test, in place of what an earlier
 * run has left there; gives its path. What cannot be had is left out: a test has failed, and that is what is told.
 */
export async function saveArtifacts(fleet: AttachedFleetMembers, test: FailedTest): Promise<string> {
  const folder = join(test.folder, folderName(test));
  // Two runs of one suite may fail in the same test: each is there as a whole, or not at all.
  const fresh = `${folder}.${process.pid}-${randomBytes(4).toString('hex')}`;
  const signal = AbortSignal.timeout(DEADLINE_MS);
  try {
    await Promise.all(fleet.names.map((name) => saveVm(fleet.get(name), join(fresh, name), signal)));
    await replace(fresh, folder);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return folder;
}

async function replace(fresh: string, folder: string): Promise<void> {
  const old = `${fresh}.old`;
  await rename(folder, old).catch(() => {});
  // Another run may have put its own there meanwhile; one of the two is as good as the other.
  await rename(fresh, folder).catch(() => {});
  await rm(old, { recursive: true, force: true });
}

async function saveVm(vm: RunningVm, folder: string, signal: AbortSignal): Promise<void> {
  await mkdir(folder, { recursive: true });
  const save = async (name: string, content: () => Promise<string | Uint8Array | null>): Promise<void> => {
    const deadline = sleep(DEADLINE_MS, null, { ref: false });
    const found = await Promise.race([content().catch(() => null), deadline]);
    if (found !== null && found.length > 0) await writeFile(join(folder, name), found);
  };
  await Promise.all([
    save('console.log', () => logText(vm, 'console', signal)),
    save('provision.log', () => logText(vm, 'provision', signal)),
    save('screenshot.png', () => vm.screenshot()),
    save('status.json', async () => `${JSON.stringify(await vm.status(), null, 2)}\n`),
  ]);
}

async function logText(vm: RunningVm, kind: 'console' | 'provision', signal: AbortSignal): Promise<string> {
  let text = '';
  for await (const line of vm.log(kind, { signal })) text += `${line}\n`;
  return text;
}

const LONGEST_NAME = 100;

/** Two tests never share a folder, and a person finds the one he looks for. */
function folderName({ file, name }: FailedTest): string {
  const whole = `${file} ${name}`;
  const readable = whole.replaceAll(/[^\p{L}\p{N}._-]+/gu, '-').replaceAll(/^[-.]+|[-.]+$/g, '');
  const digest = createHash('sha256').update(whole).digest('hex').slice(0, 6);
  return `${readable.slice(0, LONGEST_NAME)}-${digest}`;
}
