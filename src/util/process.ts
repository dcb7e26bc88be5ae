/**
 * Which process is that? A pid alone names nobody, because pids are used again: a process is its pid together with
 * the time at which it started.
 */
import { readFile, readdir } from 'node:fs/promises';
import { runCommand } from './exec.js';
import { errorCode } from './fs.js';

export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in whatever form this host tells it; only ever compared for equality. */
  readonly startTime: string;
}

/** The identity of a living process; null when there is none of that pid. A zombie does not count as living. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | null> {
  if (!isAlive(pid)) return null;
  if (process.platform !== 'linux') return identifyByPs(pid);
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // proc_pid_stat(5): the name stands in parentheses and may hold any character; field 22 is the start time.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, startTime] = [fields[0], fields[19]];
    if (state === 'Z' || state === 'X' || startTime === undefined) return null;
    return { pid, startTime: `${await bootId()}/${startTime}` };
  } catch {
    return null;
  }
}

/** True when exactly this process still lives. */
export async function isSameProcess(identity: ProcessIdentity): Promise<boolean> {
  const now = await identifyProcess(identity.pid);
  return now !== null && now.startTime === identity.startTime;
}

/** The words of a living process's command line; null when it is gone or hidden. */
export async function commandLineOf(pid: number): Promise<readonly string[] | null> {
  if (process.platform !== 'linux') return commandLineByPs(pid);
  try {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
    return words.slice(0, -1);
  } catch {
    return null;
  }
}

/** The pid of the process whose command line has this word, if there is one. Looks at every process. */
export async function findProcessByWord(word: string): Promise<number | null> {
  for (const pid of await allPids()) {
    const words = await commandLineOf(pid);
    if (words?.includes(word) === true && pid !== process.pid) return pid;
  }
  return null;
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
  } catch {
    return 'unknown';
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

async function allPids(): Promise<readonly number[]> {
  if (process.platform === 'linux') return (await readdir('/proc')).map(Number).filter(Number.isSafeInteger);
  const { stdout } = await runCommand('ps', ['-A', '-o', 'pid=']);
  return stdout.split('\n').map(Number).filter(Number.isSafeInteger);
}

async function identifyByPs(pid: number): Promise<ProcessIdentity | null> {
  try {
    const { stdout } = await runCommand('ps', ['-p', String(pid), '-o', 'lstart=']);
    return { pid, startTime: stdout.trim() };
  } catch {
    return null;
  }
}

async function commandLineByPs(pid: number): Promise<readonly string[] | null> {
  try {
    const { stdout } = await runCommand('ps', ['-p', String(pid), '-ww', '-o', 'args=']);
    return stdout.trim().split(/\s+/);
  } catch {
    return null;
  }
}
