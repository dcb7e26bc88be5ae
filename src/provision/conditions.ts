/**
 * What somebody may wait for in a guest: a service, a file, a line on the console. `ready` of a VMFile and `waitFor` of
 * the API are this. All conditions are waited for at the same time, one deadline holds for all of them, and a failure
 * says for each what was looked for and what was found instead. How each is found out is in `examine.ts`.
 */
import { setMaxListeners } from 'node:events';
import { stripVTControlCharacters } from 'node:util';
import { VmctlError, unreachable } from '../errors.js';
import type { ReadyCondition } from '../model/definition.js';
import { conditionTitle } from '../model/spec.js';
import type { Endpoint } from '../model/vm.js';
import type { SshConnection } from '../ssh/client.js';
import { tailOfFile } from '../util/exec.js';
import { backOff, pause, throwIfAborted } from '../util/wait.js';
import { examine } from './examine.js';
import { watch } from './watch.js';

/** A way from this host to a port of the guest. */
export interface Route extends Endpoint {
  /**
   * Whether the guest has taken a connection that was made on this way. Null where nobody else takes one: then that it
   * could be made says so.
   */
  readonly taken: (() => Promise<boolean>) | null;
}

export interface ConditionWorld {
  /** The VM's name, for messages. */
  readonly name: string;
  /** A connection that is logged in, the same one while it is open; null where nobody can log in. */
  readonly connection: (() => Promise<SshConnection>) | null;
  /** Null where nothing leads to this port of the guest, or where that is not known yet. */
  readonly route: (guestPort: number) => Promise<Route | null>;
  /** Absolute path. */
  readonly consoleLog: string;
  /** Brings it up to date, where nobody writes it while the guest prints. */
  readonly catchUpConsole: () => Promise<unknown>;
  /** How much of the console log is of earlier starts, in bytes. */
  readonly consoleFrom: number;
  /** Absolute path of what the guest had printed before its start, where it goes on from saved memory; null where it booted. */
  readonly consoleBefore: string | null;
  readonly stillRunning: () => Promise<boolean>;
}

export interface ConditionOptions {
  /** Milliseconds for all of it. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Told which conditions do not hold yet: at first all, and then whenever one holds. */
  readonly onWaiting?: (left: readonly ReadyCondition[]) => void;
}

/** A condition that is waited for. */
interface Wait {
  readonly condition: ReadyCondition;
  holds: boolean;
  /** What was found instead when it was looked at last. */
  found: string;
}

const CONSOLE_LINES = 20;

/**
 * Settles when each condition has been seen to hold. Throws `READY_TIMEOUT` saying what was found last, with the
 * console's last lines; `VM_STATE` as soon as the VM has stopped; `COMMAND_FAILED` when cloud-init has failed and so will
 * never be done; `UNSUPPORTED` for a condition that needs a login where nobody can log in; `ABORTED`; and whatever
 * `stillRunning` throws.
 */
export async function waitForConditions(
  conditions: readonly ReadyCondition[],
  world: ConditionWorld,
  options: ConditionOptions,
): Promise<void> {
  const { timeoutMs, signal, onWaiting = () => {} } = options;
  throwIfAborted(signal);
  const end = new AbortController();
  const stops = AbortSignal.any([signal, end.signal]);
  // Every condition listens, and every command that is run for one.
  setMaxListeners(0, stops);
  const waits: readonly Wait[] = conditions.map((condition) => ({ condition, holds: false, found: 'no answer yet' }));
  const tell = () => onWaiting(waits.filter(({ holds }) => !holds).map(({ condition }) => condition));
  const timer = setTimeout(() => end.abort('late'), timeoutMs);
  void watch(world.stillRunning, end);
  tell();
  const running = waits.map(async (wait) => {
    await untilItHolds(wait, world, stops);
    tell();
  });
  try {
    await Promise.all(running);
  } catch (error) {
    throwIfAborted(signal);
    if (!end.signal.aborted) throw error;
    if (end.signal.reason !== 'late' && end.signal.reason !== 'stopped') throw end.signal.reason;
    throw await notReady(waits, world, { stopped: end.signal.reason === 'stopped', timeoutMs });
  } finally {
    clearTimeout(timer);
    end.abort('over');
    await Promise.allSettled(running);
  }
}

/** What a guest may get over; the others are told at once. */
const PASSING: ReadonlySet<string> = new Set(['SSH_TRANSPORT', 'SSH_AUTHENTICATION', 'TIMEOUT', 'PROPOLIS']);

async function untilItHolds(wait: Wait, world: ConditionWorld, stops: AbortSignal): Promise<void> {
  let answered = false;
  for (const delay of backOff()) {
    try {
      const problem = await examine(wait.condition, world, stops);
      if (problem === null) {
        wait.holds = true;
        return;
      }
      wait.found = problem;
      answered = true;
    } catch (error) {
      throwIfAborted(stops);
      if (!(error instanceof VmctlError) || !PASSING.has(error.code)) throw error;
      // What the guest answered last says more.
      if (!answered) wait.found = error.message;
    }
    // Not all at the same moment: dropbear 2022.83 refuses commands that begin while others end, and would each time.
    await pause(delay * (0.5 + Math.random()), stops);
  }
}

async function notReady(
  waits: readonly Wait[],
  { name, consoleLog, catchUpConsole }: ConditionWorld,
  { stopped, timeoutMs }: { readonly stopped: boolean; readonly timeoutMs: number },
): Promise<VmctlError> {
  const left = waits.filter(({ holds }) => !holds);
  await catchUpConsole().catch(() => {});
  const details = stripVTControlCharacters(await tailOfFile(consoleLog, CONSOLE_LINES));
  const rest = {
    ...(details.trim() === '' ? {} : { details }),
    fields: { vm: name, condition: left.map(({ condition }) => conditionTitle(condition)).join('; '), timeoutMs },
  };
  const log = `vmctl log ${name}`;
  if (stopped) {
    const what = left.map(({ condition }) => missing(condition)).join('; ');
    const message = `VM "${name}" stopped while it was waited for: ${what}`;
    return new VmctlError('VM_STATE', message, { hint: `See what it said: ${log}`, ...rest });
  }
  const hint = `If it only needs longer, raise the timeout; to see what the guest says: ${log}`;
  return new VmctlError('READY_TIMEOUT', `VM "${name}" was not ready: ${timeoutText(left, timeoutMs)}`, {
    hint,
    ...rest,
  });
}

/** One in a sentence, and several each with what was found instead. */
function timeoutText(left: readonly Wait[], timeoutMs: number): string {
  const within = `within ${timeoutMs / 1000} s`;
  const [first, ...others] = left;
  if (first === undefined) return within;
  if (others.length === 0) return `${missing(first.condition)} ${within}: ${first.found}`;
  return `${within} ${left.map(({ condition, found }) => `${missing(condition)} (${found})`).join(', and ')}`;
}

function missing(condition: ReadyCondition): string {
  switch (condition.kind) {
    case 'http':
      return `GET ${condition.path} on port ${condition.port} was not answered with ${condition.status ?? 'success'}`;
    case 'port':
      return `nothing listened on port ${condition.port}`;
    case 'log':
      return `no line of its console matched /${condition.pattern}/${condition.flags}`;
    case 'shell':
      return `the command ${JSON.stringify(condition.command)} did not succeed`;
    case 'file':
      return `there was no ${condition.path}`;
    case 'unit':
      return `the unit ${condition.unit} was not active`;
    case 'cloud-init':
      return 'cloud-init was not done';
    default:
      return unreachable(condition);
  }
}
