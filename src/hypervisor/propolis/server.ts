/**
 * The propolis-server of a VM: one process for one boot, with an address of its own. It is found again by its pid and
 * start time. It goes on after its VM has ended, and a second VM in it would have no screen: so it is ended each time.
 */
import { createServer } from 'node:net';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { type DetachedProcess, startDetached, tailOfFile } from '../../util/exec.js';
import { exists, readTextIfPresent, writeFileAtomically } from '../../util/fs.js';
import { type ProcessIdentity, findByCommandLine, identifyProcess, isSameProcess } from '../../util/process.js';
import { waitFor } from '../../util/wait.js';
import { type InstanceState, PropolisClient } from './client.js';
import type { HostRunner } from './host-runner.js';

const runtimeSchema = v.object({
  address: v.string(),
  /** Null from before the server is spawned until its pid is known. */
  process: v.nullable(v.object({ pid: v.number(), startTime: v.string() })),
});

type Runtime = v.InferOutput<typeof runtimeSchema>;

/** A VM's directory, and what is needed of the rest. */
export type Place = Pick<VmHandle, 'directory' | 'name'>;

export interface LiveServer {
  readonly process: ProcessIdentity;
  readonly address: string;
}

/** States in which a VM needs its server. */
const ENDED: ReadonlySet<InstanceState> = new Set(['Stopped', 'Destroyed', 'Failed']);

const TERMINATE_TIMEOUT_MS = 5_000;
const QUICK_MS = 2_000;

export const logOf = ({ directory }: Pick<Place, 'directory'>): string => join(directory, VM_FILES.propolisLog);

export function clientOf(
  place: Place,
  address: string,
  limits: { signal?: AbortSignal; timeoutMs?: number } = {},
): PropolisClient {
  return new PropolisClient({ address, logFile: logOf(place), ...limits });
}

/** The living server of a VM; null when there is none. */
export async function findServer({ directory }: Place): Promise<LiveServer | null> {
  const text = await readTextIfPresent(join(directory, VM_FILES.runtime));
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), runtimeSchema), text);
  if (!parsed.success) return null;
  const { address, process } = parsed.output;
  if (process !== null) return (await isSameProcess(process)) ? { process, address } : null;
  // The start was broken off between the spawning and the writing down.
  const [found] = await findByCommandLine((words) => words.includes('run') && words.at(-1) === address);
  return found === undefined ? null : { process: found, address };
}

async function writeRuntime({ directory }: Place, runtime: Runtime): Promise<void> {
  await writeFileAtomically(join(directory, VM_FILES.runtime), `${JSON.stringify(runtime)}\n`);
}

export interface ServerOptions {
  readonly binary: string;
  readonly bootrom: string;
  readonly host: HostRunner;
}

/** A server that was started, whether or not anything comes of it. */
export interface StartedServer extends LiveServer {
  /** Settles when it ends while vmctl still runs; says how. */
  readonly ended: Promise<string>;
}

/** Starts the server on a free port of 127.0.0.1. What is written down first lets a killed start be found. */
export async function startServer(place: Place, { binary, bootrom, host }: ServerOptions): Promise<StartedServer> {
  const address = `127.0.0.1:${await freePort()}`;
  await writeRuntime(place, { address, process: null });
  const [program, ...words] = host.privileged([binary, 'run', bootrom, address]);
  const child = await startDetached(program, words, { cwd: place.directory, logFile: logOf(place) });
  const process = await identifyOrExplain(place, child);
  await writeRuntime(place, { address, process });
  return { process, address, ended: child.ended };
}

async function identifyOrExplain(place: Place, { pid, ended }: DetachedProcess): Promise<ProcessIdentity> {
  const identity = await identifyProcess(pid);
  if (identity !== null) return identity;
  throw await startError(place, `propolis-server ${await ended}`);
}

/** The port is free for a moment only; whoever takes it meanwhile makes the server end with its words about that. */
async function freePort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const bound = listener.address();
  listener.close();
  await once(listener, 'close');
  if (bound !== null && typeof bound === 'object') return bound.port;
  throw new VmctlError('INTERNAL', 'Internal error: a listener without a port');
}

/** Waits until the server answers with whatever status, or has ended with a reason. */
export async function awaitServer(
  place: Place,
  server: StartedServer,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  let end: string | null = null;
  void server.ended.then((how) => (end = how));
  const client = clientOf(place, server.address, { signal, timeoutMs: QUICK_MS });
  const look = async () => {
    const answers = await client.isThere();
    // Another program may have taken the port, and answer in its place.
    if (end !== null) throw await startError(place, `propolis-server ${end}`);
    return answers ? true : null;
  };
  if ((await waitFor(look, { timeoutMs, signal })) !== null) return;
  throw await startError(place, `propolis-server did not answer for ${timeoutMs / 1000} s`);
}

/** `PROPOLIS` with what happened and the last words of the server's log. */
export async function startError(place: Place, what: string, cause?: unknown): Promise<VmctlError> {
  const words = await tailOfFile(logOf(place), 20);
  const last = words.split('\n').at(-1) ?? '';
  const message = `VM "${place.name}" did not start: ${what}${last === '' ? '' : `: ${last}`}`;
  return new VmctlError('PROPOLIS', message, {
    ...(words.includes('\n') ? { details: words } : {}),
    ...startHint(words),
    ...(cause === undefined ? {} : { cause }),
    fields: { vm: place.name, path: logOf(place) },
  });
}

function startHint(words: string): { hint?: string } {
  if (/OS is too old/.test(words))
    return { hint: 'Its virtual machines need a newer release of illumos: update the host.' };
  if (/Address already in use/i.test(words))
    return { hint: 'Another program took the port meanwhile: start it again.' };
  if (/Permission denied|os error 13|not permitted/i.test(words)) {
    return { hint: "Let pfexec start it: usermod -P 'Primary Administrator' USER, as root; or run vmctl as root." };
  }
  if (/vmm|vmmctl/.test(words) && /No such file/i.test(words)) {
    return { hint: 'This host has no /dev/vmmctl: it needs bhyve, in the global zone, on a processor that can do it.' };
  }
  return {};
}

/** The state of the VM in a living server; null where the server has made none, or does not answer. */
export async function stateOf(place: Place, { address }: LiveServer): Promise<InstanceState | 'silent' | null> {
  try {
    return (await clientOf(place, address, { timeoutMs: QUICK_MS }).instance())?.state ?? null;
  } catch (error) {
    if (error instanceof VmctlError && error.code === 'PROPOLIS') return 'silent';
    throw error;
  }
}

/** Whether the VM is one that runs, however badly. */
export function isLive(state: InstanceState | 'silent' | null): boolean {
  return state !== null && state !== 'Creating' && (state === 'silent' || !ENDED.has(state));
}

export interface EndOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Called while the VM has not ended yet, for what can be had of it only then. It must not fail. */
  readonly meanwhile?: (() => Promise<void>) | undefined;
}

/** Waits until the VM has ended; false when the time is up first, or the server does not tell any more. */
export async function awaitEnd(
  place: Place,
  server: LiveServer,
  { meanwhile = async () => {}, ...options }: EndOptions,
): Promise<boolean> {
  const look = async (): Promise<true | null> => {
    if (!(await isSameProcess(server.process))) return true;
    const state = await stateOf(place, server);
    if (state === null || state === 'Destroyed' || state === 'Failed') return true;
    if (state !== 'silent') await meanwhile();
    return null;
  };
  return (await waitFor(look, options)) ?? false;
}

export interface Ending {
  /** The VM's name in the kernel; null where it is lost. */
  readonly uuid: string | null;
  readonly host: HostRunner;
  /** How long the VM may take to end without power, in milliseconds. */
  readonly rundownMs: number;
  readonly meanwhile?: EndOptions['meanwhile'];
}

/**
 * Ends the VM, by the end of its power where it still has any, and then its server; settles when both are gone.
 * A VM that was not ended by its server stays in the kernel, with its memory, so that is asked to forget it.
 */
export async function endServer(
  place: Place,
  server: LiveServer,
  ending: Ending,
): Promise<'halt' | 'SIGTERM' | 'SIGKILL'> {
  const { uuid, host } = ending;
  const halted = await halt(place, server, ending);
  if (await endBySignal(server, 'TERM', host)) {
    await forgetServer(place, { uuid: halted ? null : uuid, host });
    return halted ? 'halt' : 'SIGTERM';
  }
  await killServer(place, server, ending);
  return 'SIGKILL';
}

/** Ends the server without a word, so that it flushes nothing, and the VM that it leaves in the kernel. */
export async function killServer(
  place: Place,
  server: LiveServer,
  { uuid, host }: Pick<Ending, 'uuid' | 'host'>,
): Promise<void> {
  if (!(await endBySignal(server, 'KILL', host))) throw immortal(place, server);
  await forgetServer(place, { uuid, host });
}

/** Clears away what a server that is gone has left, however it went; its VM in the kernel only where that is named. */
export async function forgetServer({ directory }: Place, { uuid, host }: Pick<Ending, 'uuid' | 'host'>): Promise<void> {
  const runtime = join(directory, VM_FILES.runtime);
  if (!(await exists(runtime))) return;
  // Its usage (illumos-gate, `usr/src/cmd/bhyvectl/bhyvectl.c`). The VM may be gone, which it tells as a failure.
  if (uuid !== null) await host.change(['bhyvectl', `--vm=${uuid}`, '--destroy']).catch(() => {});
  await rm(runtime, { force: true });
}

function immortal({ name }: Place, { process: { pid } }: LiveServer): VmctlError {
  const patience = TERMINATE_TIMEOUT_MS / 1000;
  return new VmctlError('PROPOLIS', `propolis-server (pid ${pid}) is still there ${patience} s after SIGKILL`, {
    hint: 'It is probably waiting for a disk; look at it with ps and try again.',
    fields: { vm: name, pid },
  });
}

/** Whether the VM has ended; false where it does not, or its server is not to be talked to. */
async function halt(place: Place, server: LiveServer, { rundownMs, meanwhile }: Ending): Promise<boolean> {
  const state = await stateOf(place, server);
  if (state === 'silent') return false;
  if (state === null || state === 'Destroyed' || state === 'Failed') return true;
  await meanwhile?.();
  try {
    await clientOf(place, server.address, { timeoutMs: QUICK_MS }).change('Stop');
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code !== 'PROPOLIS') throw error;
    // It may be ending already, or have ended between the two requests.
    const { status } = error.fields;
    if (status !== 403 && status !== 424) return false;
  }
  return awaitEnd(place, server, { timeoutMs: rundownMs, meanwhile });
}

async function endBySignal({ process }: LiveServer, signal: 'TERM' | 'KILL', host: HostRunner): Promise<boolean> {
  if (!(await isSameProcess(process))) return true;
  await host.change(['kill', `-${signal}`, String(process.pid)]).catch(async (error: unknown) => {
    // However that is told: it may have ended by itself meanwhile.
    if (await isSameProcess(process)) throw error;
  });
  const look = async () => ((await isSameProcess(process)) ? null : true);
  return (await waitFor(look, { timeoutMs: TERMINATE_TIMEOUT_MS })) ?? false;
}
