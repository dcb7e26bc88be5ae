/**
 * Which process is that? A pid alone names nobody, because pids are used again: a process is its pid together with
 * the time at which it started.
 */
import { readFile, readdir } from 'node:fs/promises';
import { VmctlError } from '../errors.js';
import { runCommand } from './exec.js';
import { errorCode, isMissing } from './fs.js';
import { startTimeOf } from './illumos-process.js';

export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in whatever form this host tells it; only ever compared for equality. */
  readonly startTime: string;
}

/**
 * The identity of a living process; null when there is none of that pid. A zombie does not count as living, unless one
 * of its threads is still at work in the kernel. Throws where the host does not tell: nobody is taken for dead then.
 */
export async function identifyProcess(
  pid: number,
  platform: NodeJS.Platform = process.platform,
): Promise<ProcessIdentity | null> {
  if (!isAlive(pid)) return null;
  if (platform === 'sunos') return identifyOnIllumos(pid);
  if (platform !== 'linux') return identifyByPs(pid);
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  // proc_pid_stat(5): the name stands in parentheses and may hold any character; 3 is the state, 20 the number of
  // threads, 22 the start time.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, threads, startTime] = [fields[0], fields[17], fields[19]];
  const ended = state === 'X' || (state === 'Z' && Number(threads) <= 1);
  return ended || startTime === undefined ? null : { pid, startTime: `${await bootId()}/${startTime}` };
}

/** True when exactly this process still lives. */
export async function isSameProcess(identity: ProcessIdentity): Promise<boolean> {
  const now = await identifyProcess(identity.pid);
  return now !== null && now.startTime === identity.startTime;
}

/** The words of a living process's command line; null when it is gone or hidden. */
export async function commandLineOf(
  pid: number,
  platform: NodeJS.Platform = process.platform,
): Promise<readonly string[] | null> {
  if (platform !== 'linux') return commandLineByPs(pid, platform);
  try {
    const text = await readFile(`/proc/${pid}/cmdline`, 'utf8');
    return text === '' ? null : text.split('\0').slice(0, -1);
  } catch {
    return null;
  }
}

/** What a command line must be like; its words, without the shell's quotes. */
export type CommandLineTest = (words: readonly string[]) => boolean;

/** The process of that pid, if its command line is like that; null otherwise. */
export async function identifyByCommandLine(
  pid: number,
  isLike: CommandLineTest,
  platform: NodeJS.Platform = process.platform,
): Promise<ProcessIdentity | null> {
  const matches = async (): Promise<boolean> => {
    const words = await commandLineOf(pid, platform);
    return words !== null && isLike(words);
  };
  if (!(await matches())) return null;
  const identity = await identifyProcess(pid, platform);
  // Looked at again: between the two another process may have got the pid.
  return identity !== null && (await matches()) ? identity : null;
}

/** Every other process whose command line is like that. */
export async function findByCommandLine(
  isLike: CommandLineTest,
  platform: NodeJS.Platform = process.platform,
): Promise<readonly ProcessIdentity[]> {
  const found: ProcessIdentity[] = [];
  for (const [pid, words] of await allCommandLines(platform)) {
    const identity = pid === process.pid || !isLike(words) ? null : await identifyByCommandLine(pid, isLike, platform);
    if (identity !== null) found.push(identity);
  }
  return found;
}

/** Sends a signal to exactly this process; false when it is gone already. */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean> {
  if (!(await isSameProcess(identity))) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
    throw error;
  }
}

/** Names this boot of the host; a value that is remembered for it is worthless after the next one. */
export async function bootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch (error) {
    if (isMissing(error)) return 'unknown';
    throw error;
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}

/** True for what `/proc` says when the process ends before or while its file is read. */
function isGone(error: unknown): boolean {
  return isMissing(error) || errorCode(error) === 'ESRCH';
}

async function allCommandLines(platform: NodeJS.Platform): Promise<readonly (readonly [number, readonly string[]])[]> {
  if (platform !== 'linux') {
    const lines = ((await ps(['-A', ...unlimited(platform), '-o', 'pid=', '-o', 'args='])) ?? '').split('\n');
    return lines.map((line) => line.trim().split(/\s+/)).map(([pid, ...words]) => [Number(pid), words]);
  }
  const pids = (await readdir('/proc')).map(Number).filter(Number.isSafeInteger);
  return Promise.all(pids.map(async (pid) => [pid, (await commandLineOf(pid)) ?? []] as const));
}

async function identifyOnIllumos(pid: number): Promise<ProcessIdentity | null> {
  try {
    const startTime = startTimeOf(await readFile(`/proc/${pid}/psinfo`));
    return startTime === null ? null : { pid, startTime };
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** The `ps` of illumos never cuts what it prints into a pipe, and has no option for that. */
const unlimited = (platform: NodeJS.Platform): readonly string[] => (platform === 'sunos' ? [] : ['-ww']);

async function identifyByPs(pid: number): Promise<ProcessIdentity | null> {
  const text = await ps(['-p', String(pid), '-o', 'stat=', '-o', 'lstart=']);
  const [state = '', ...startTime] = (text ?? '').trim().split(/\s+/);
  return state === '' || state.startsWith('Z') ? null : { pid, startTime: startTime.join(' ') };
}

async function commandLineByPs(pid: number, platform: NodeJS.Platform): Promise<readonly string[] | null> {
  const text = await ps(['-p', String(pid), ...unlimited(platform), '-o', 'args=']);
  return text?.trim().split(/\s+/) ?? null;
}

/** What `ps` prints, in UTC, so that two processes with different time zones read the same; null for no such process. */
async function ps(arguments_: readonly string[]): Promise<string | null> {
  try {
    return (await runCommand('env', ['TZ=UTC0', 'ps', ...arguments_])).stdout;
  } catch (error) {
    if (error instanceof VmctlError && error.fields['exitCode'] === 1) return null;
    throw error;
  }
}
