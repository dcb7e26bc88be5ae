/**
 * Runs the provision steps of a VM, in order, over one SSH connection.
 *
 * - `inline` text is the SSH command as it stands: the user's login shell executes it, however many lines it has, and
 *   the exit code is that of its last command. Nothing is added to it, no `set -e` either: the text means what it would
 *   mean after `ssh vm`. A text too long for a command line is uploaded and executed by the same shell.
 * - A step with `run="each"` has `VMCTL_NAME` and `VMCTL_INDEX` in its environment, unless it sets them itself. The
 *   others have not: what they make may be frozen and become part of other VMs.
 * - `script` is uploaded to `/tmp/vmctl-provision-<step>.sh` (the step's number in the VMFile, from 1), for its user alone,
 *   and executed: by the interpreter in its `#!` line, else by the shell. It stays there, to be looked at.
 * - `file` is copied over SFTP with the local mode, a folder with everything in it: what the folder at the destination has
 *   besides stays. `~/` at the beginning of the destination is the user's home directory.
 */
import { Buffer } from 'node:buffer';
import { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { callbackify } from 'node:util';
import { VmctlError, toVmctlError } from '../errors.js';
import type { StageReporter } from '../model/event.js';
import { type ProvisionStep, type ShellStep, stepTitle } from '../model/spec.js';
import type { SshConnection } from '../ssh/client.js';
import { homePath } from '../ssh/home-path.js';
import { LineSplitter } from '../ssh/line-splitter.js';
import { countText } from '../ssh/transfer.js';
import { exportPrefix } from '../ssh/shell-quote.js';
import { throwIfAborted } from '../util/wait.js';
import { ProvisionLog } from './log.js';
import { type StepCounts, type StepMemory, runInOrder } from './step-sequence.js';

/** dropbear takes 9000 bytes of command (MAX_CMD_LEN), Linux 128 KiB for one argument of the shell. */
const LONGEST_COMMAND_BYTES = 8_000;
const SCRIPT_MODE = 0o700;
const DETAIL_LINES = 20;
const LOG_KINDS = { stdout: 'out', stderr: 'err', note: 'note' } as const;

export interface ProvisionOptions extends StepMemory {
  /** The VM's name, for messages. */
  readonly name: string;
  /** Its place among the VMs of its group, from 1; default 1. */
  readonly index?: number;
  /** Absolute path of `provision.log`; appended to. */
  readonly logFile: string;
  /** What every step is told besides its own `env`, which wins. */
  readonly variables?: Readonly<Record<string, string>>;
  /** What the steps for each VM are told besides. */
  readonly ownVariables?: Readonly<Record<string, string>>;
  readonly reporter: StageReporter;
  readonly signal: AbortSignal;
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly clock?: () => number;
}

/**
 * Runs the steps whose `run` demands it, until the first one that fails. Output goes line by line to the reporter and
 * to the log; values of environment variables go nowhere.
 *
 * Throws `PROVISION_FAILED` naming the step, with its last lines, when it exits with anything but 0 or is refused by the
 * guest; `TIMEOUT` the same way when it is too slow; `SSH_TRANSPORT` when the connection breaks off during a step; `STATE_DIRECTORY` when the log cannot
 * be written; `FILE_NOT_FOUND` and `UNSUPPORTED` for the step's own file; `ABORTED`.
 */
export async function runSteps(
  connection: SshConnection,
  steps: readonly ProvisionStep[],
  options: ProvisionOptions,
): Promise<StepCounts> {
  const clock = options.clock ?? Date.now;
  const log = new ProvisionLog(options.logFile, clock);
  await log.open();
  try {
    return await runInOrder(steps, options, async (step, number) => {
      await new StepRun(connection, step, { ...options, clock, log, number, total: steps.length }).run();
      await log.settle();
    });
  } finally {
    await log.close();
  }
}

interface StepContext extends ProvisionOptions {
  readonly clock: () => number;
  readonly log: ProvisionLog;
  /** From 1. */
  readonly number: number;
  readonly total: number;
}

/** How a step ended. */
interface Ending {
  readonly ok: boolean;
  readonly words: string;
  readonly hint?: string;
  readonly late?: true;
}

class StepRun {
  readonly #connection: SshConnection;
  readonly #step: ProvisionStep;
  readonly #context: StepContext;
  readonly #label: string;
  readonly #tail: string[] = [];

  constructor(connection: SshConnection, step: ProvisionStep, context: StepContext) {
    this.#connection = connection;
    this.#step = step;
    this.#context = context;
    this.#label = `${context.number}/${context.total}`;
  }

  async run(): Promise<void> {
    const { log, reporter, clock, signal, number, total } = this.#context;
    const title = stepTitle(this.#step);
    reporter.status(`step ${this.#label}: ${title}`, { kind: 'provision-step', number, total, title });
    log.write(this.#label, 'start', title);
    const begun = clock();
    const took = (): string => `${((clock() - begun) / 1000).toFixed(1)} s`;
    const deadline = new AbortController();
    const timeout = this.#step.timeoutSeconds;
    const timer = timeout === null ? undefined : setTimeout(() => deadline.abort(), timeout * 1000);
    let ending: Ending;
    try {
      ending = await this.#execute(AbortSignal.any([signal, deadline.signal]));
    } catch (error) {
      if (signal.aborted) {
        log.write(this.#label, 'end', `interrupted, ${took()}`);
        throwIfAborted(signal);
      }
      if (!deadline.signal.aborted) {
        log.write(this.#label, 'end', `${toVmctlError(error).message}, ${took()}`);
        throw this.#broken(error);
      }
      ending = { ok: false, words: `did not finish within ${timeout} s`, late: true };
    } finally {
      clearTimeout(timer);
    }
    log.write(this.#label, 'end', `${ending.words}, ${took()}`);
    if (!ending.ok) throw await this.#failed(ending);
  }

  async #execute(signal: AbortSignal): Promise<Ending> {
    const step = this.#step;
    if (step.kind === 'shell') return this.#shell(step, signal);
    const { reporter } = this.#context;
    const summary = await this.#connection.copyTo(step.source, homePath(step.destination), {
      signal,
      onProgress: (bytes, total) => reporter.progress(bytes, total),
      onSkipped: (path) => this.#line(`${path} is left out: it is neither a file nor a folder`, 'note'),
    });
    return { ok: true, words: summary.folders === 0 ? 'uploaded' : `uploaded ${countText(summary)}` };
  }

  async #shell(step: ShellStep, signal: AbortSignal): Promise<Ending> {
    const [stdout, stderr] = [this.#sink('stdout'), this.#sink('stderr')];
    try {
      const command = await this.#command(step, signal);
      const { exitCode, signal: killedBy } = await this.#connection.exec(command, { stdout, stderr, signal });
      if (killedBy !== null) return { ok: false, words: `ended by ${killedBy}` };
      // What POSIX shells answer when they cannot execute a file, or find its interpreter.
      const unusable = step.command.kind === 'script' && (exitCode === 126 || exitCode === 127);
      const hint =
        "The script's #! line may name an interpreter that the guest does not have, or end in a carriage return.";
      return { ok: exitCode === 0, words: `exit code ${exitCode}`, ...(unusable ? { hint } : {}) };
    } finally {
      await Promise.all([stdout, stderr].map(endSink));
    }
  }

  /** Takes a step's output no faster than its log does: a flood waits in the guest, and not in memory here. */
  #sink(stream: 'stdout' | 'stderr'): Writable {
    const lines = new LineSplitter((line) => this.#line(line, stream));
    return new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        lines.push(chunk);
        callbackify(() => this.#context.log.drain())(done);
      },
      final: (done) => {
        lines.end();
        done();
      },
    });
  }

  /** What sshd is told to run. What must be a file in the guest for that is put there first. */
  async #command(step: ShellStep, signal: AbortSignal): Promise<string> {
    const file = `/tmp/vmctl-provision-${this.#context.number}.sh`;
    const script = step.command.kind === 'script' ? step.command.path : null;
    if (script !== null) await this.#connection.upload(script, file, { mode: SCRIPT_MODE, signal });
    const command = exportPrefix(this.#environment(step)) + (step.command.kind === 'script' ? file : step.command.text);
    if (Buffer.byteLength(command) <= LONGEST_COMMAND_BYTES) return command;
    const longFile = `${file}.long`;
    const { exitCode } = await this.#connection.exec(`umask 077; cat > ${longFile}`, { stdin: command, signal });
    if (exitCode !== 0) {
      throw new VmctlError('PROVISION_FAILED', `the guest could not write ${longFile} (exit code ${exitCode})`);
    }
    return `"\${SHELL:-/bin/sh}" ${longFile}`;
  }

  #environment({ run, environment }: ShellStep): Readonly<Record<string, string>> {
    const { name, index = 1, variables, ownVariables } = this.#context;
    if (run !== 'each') return { ...variables, ...environment };
    return { VMCTL_NAME: name, VMCTL_INDEX: String(index), ...variables, ...ownVariables, ...environment };
  }

  #line(line: string, stream: 'stdout' | 'stderr' | 'note'): void {
    this.#tail.push(line);
    if (this.#tail.length > DETAIL_LINES) this.#tail.shift();
    this.#context.log.write(this.#label, LOG_KINDS[stream], line);
    this.#context.reporter.log(line, stream);
  }

  async #failed(ending: Ending): Promise<VmctlError> {
    const { name, log } = this.#context;
    const how = ending.words.startsWith('exit code') ? `failed with ${ending.words}` : ending.words;
    let unlogged = '';
    try {
      await log.settle();
    } catch (error) {
      unlogged = ` (and ${toVmctlError(error).message})`;
    }
    const look = `All of its output: vmctl log ${name} --provision; to look around in the guest: vmctl ssh ${name}`;
    return new VmctlError(
      ending.late === true ? 'TIMEOUT' : 'PROVISION_FAILED',
      `${this.#subject()} ${how}${unlogged}`,
      {
        hint: ending.hint === undefined ? look : `${ending.hint} ${look}`,
        ...this.#details(),
        fields: { vm: name, step: this.#context.number, title: stepTitle(this.#step) },
      },
    );
  }

  /** The step did not come to an end of its own. */
  #broken(error: unknown): VmctlError {
    const { name, number } = this.#context;
    const known = toVmctlError(error);
    if (known.code === 'INTERNAL') return known;
    const lost = known.code === 'SSH_TRANSPORT';
    // What a copy is refused for is this step's failure.
    const code = known.code === 'TRANSFER_FAILED' ? 'PROVISION_FAILED' : known.code;
    const hint = lost ? `The guest may have rebooted or stopped: vmctl log ${name} --console` : known.hint;
    return new VmctlError(code, `${this.#subject()}: ${known.message}`, {
      cause: known,
      ...(hint === null ? {} : { hint }),
      ...this.#details(),
      fields: { ...known.fields, vm: name, step: number, title: stepTitle(this.#step) },
    });
  }

  #subject(): string {
    const { name, number, total } = this.#context;
    return `VM "${name}": provision step ${number} of ${total} (${stepTitle(this.#step)})`;
  }

  #details(): { details?: string } {
    return this.#tail.length === 0 ? {} : { details: this.#tail.join('\n') };
  }
}

/** A command that broke off has not ended its output. */
async function endSink(sink: Writable): Promise<void> {
  if (!sink.writableEnded) sink.end();
  await finished(sink);
}
