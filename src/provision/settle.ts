/**
 * What a guest needs to hear when it goes on from saved memory, which knows nothing of the time that has passed, nor that
 * others went on from the same: the time, and new random numbers. It is told the same before it is saved, to see
 * whether that will work.
 *
 * A guest with the kernel's driver for `vmgenid` (Linux 5.18 and later) reseeds by itself. Cloud kernels have none, and
 * writing to /dev/urandom only stirs the pool that the next reseeding takes from, up to a minute later (random(4)). So
 * the kernel is told by ioctl, which no usual program of a guest does: by one of 300 bytes, which comes along.
 *
 * A program of a guest that is saved is saved with it. So that program is left waiting at a serial port, and a guest that
 * goes on hears from it at once, before anybody logs in. Where there is no such port, it is started over SSH each time.
 */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import type { GuestPort } from '../model/vm.js';
import type { SshConnection } from '../ssh/client.js';
import type { ExecResult } from '../ssh/exec.js';
import { connectUnixSocket } from '../util/unix-socket.js';
import { throwIfAborted } from '../util/wait.js';
import { AS_ROOT } from './as-root.js';
import { refusalIn, settleMessage, settleProgram } from './settle-program.js';

const TIMEOUT_MS = 60_000;
/** How long the rest of a boot is waited for before a guest is saved. */
const BOOT_SECONDS = 120;
/** How long the program at the port may take; a guest that goes on answers in a fraction of it. */
const PORT_TIMEOUT_MS = 10_000;

/** The code by which the script tells that the program could not be started. */
const NO_PROGRAM = 41;

export interface SettleOptions {
  readonly signal: AbortSignal;
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly clock?: () => number;
}

/** What a guest that is about to be saved can be told later. */
export type SettleWay =
  | { readonly kind: 'port' | 'ssh' }
  /** It cannot, and why. */
  | { readonly kind: 'none'; readonly problem: string };

/** Sets the guest's clock and reseeds its random numbers; gives why that is not possible, or null. Throws `SSH_TRANSPORT`, `TIMEOUT`, `ABORTED`. */
export function settleGuest(connection: SshConnection, options: SettleOptions): Promise<string | null> {
  return settleOverSsh(connection, null, options);
}

/**
 * Does the same in a guest that is about to be saved, when its boot is over; leaves the program at the port, if there is one,
 * and sees to it that everything is on the guest's disk. Gives how it is to be told when it goes on.
 */
export async function prepareSaving(
  connection: SshConnection,
  port: GuestPort | null,
  options: SettleOptions,
): Promise<SettleWay> {
  const { signal } = options;
  await connection.exec(AS_ROOT, { stdin: BOOT_IS_OVER, timeoutMs: TIMEOUT_MS + BOOT_SECONDS * 1000, signal });
  const problem = await settleOverSsh(connection, port, options);
  if (problem !== null) return { kind: 'none', problem };
  const listens = port !== null && (await settleByPort(port, options));
  await connection.exec('sync', { timeoutMs: TIMEOUT_MS, signal });
  return { kind: listens ? 'port' : 'ssh' };
}

/** Tells a guest by the program that waits at its port; false where none answers that it has done it. Throws `ABORTED`. */
export async function settleByPort(
  { socket: path }: GuestPort,
  { signal, clock = Date.now, timeoutMs = PORT_TIMEOUT_MS }: SettleOptions & { readonly timeoutMs?: number },
): Promise<boolean> {
  throwIfAborted(signal);
  const socket = await connectUnixSocket(path).catch(() => null);
  if (socket === null) return false;
  const over = new AbortController();
  try {
    throwIfAborted(signal);
    const answered = new Promise<string | null>((resolve) => {
      socket.once('data', (chunk: Buffer) => resolve(chunk.toString('latin1')));
      socket.once('close', () => resolve(null));
      socket.on('error', () => {});
      socket.setTimeout(timeoutMs, () => resolve(null));
      signal.addEventListener('abort', () => socket.destroy(), { signal: over.signal });
    });
    socket.write(settleMessage(clock()));
    const answer = await answered;
    throwIfAborted(signal);
    return answer !== null && refusalIn(answer) === null;
  } finally {
    over.abort();
    socket.destroy();
  }
}

async function settleOverSsh(
  connection: SshConnection,
  port: GuestPort | null,
  { signal, clock = Date.now }: SettleOptions,
): Promise<string | null> {
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  const result = await connection.exec(AS_ROOT, {
    stdin: settleScript({ now: clock(), device: port?.device ?? null }),
    onStdout: (chunk) => output.push(chunk),
    onStderr: (chunk) => errors.push(chunk),
    timeoutMs: TIMEOUT_MS,
    signal,
  });
  const textOf = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString('utf8').trim();
  return problemIn(result, textOf(output), textOf(errors));
}

/** What the script's end means; its output may begin with what the user's shell prints by itself. */
export function problemIn({ exitCode }: Pick<ExecResult, 'exitCode'>, output: string, errors: string): string | null {
  if (exitCode === 0) return refusalIn(output.slice(-1));
  if (exitCode === NO_PROGRAM) return 'its root can start no program that comes along';
  const [words = ''] = errors.split('\n').slice(-1);
  return `its user cannot act as root${words === '' ? '' : ` (${words})`}`;
}

interface ScriptFacts {
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** The serial port that the program is to be left at; null for none. */
  readonly device: string | null;
}

/**
 * For any POSIX shell, with the programs of busybox at least. Where it is started over SSH, every restore waits for it, so
 * it starts few programs. It prints the program's answer.
 */
export function settleScript({ now, device }: ScriptFacts): string {
  // A name in the guest that nobody can know before.
  const name = `vmctl-settle.${randomBytes(16).toString('hex')}`;
  return `PATH=$PATH:/usr/sbin:/sbin
umask 077
# Its own, or nothing: a name that is there already is not written to.
set -C
exec 2>/dev/null
for folder in /run /dev/shm /tmp /var/tmp "$HOME"; do
  file=$folder/${name}
  place() { printf '${octal(settleProgram())}' >"$file" && chmod 700 "$file"; }
  if place && printf '${octal(settleMessage(now))}' | "$file"; then
    ${device === null ? '' : leaveAt(device)}
    exit 0
  fi
  rm -f "$file"
done
exit ${NO_PROGRAM}
`;
}

/**
 * In the background, and in nobody's session: neither the end of this login nor a session manager is to end it. The port
 * is opened by a child, so that it does not become the terminal of the session; that child ends where it cannot be.
 */
function leaveAt(device: string): string {
  return `place && (
      trap '' HUP
      # Opening what is not there would make a file of that name.
      [ -c ${device} ] || exit
      chmod 600 ${device}
      exec 3<>${device}
      stty raw -echo <&3 || exit
      echo 0 >|/sys/fs/cgroup/cgroup.procs
      "$file" <&3 >&3 &
    ) || rm -f "$file"`;
}

/**
 * A guest can be logged in to before its boot is over: cloud-init starts its SSH server anew at the end. Saved before
 * that, it would do so in everybody who goes on from there.
 */
const BOOT_IS_OVER = `PATH=$PATH:/usr/sbin:/sbin
[ ! -d /run/systemd/system ] || timeout ${BOOT_SECONDS} systemctl is-system-running --wait </dev/null >/dev/null 2>&1 || :
modprobe vmgenid 2>/dev/null
exit 0
`;

/** Every byte as printf(1) of any shell reads it. */
function octal(bytes: Uint8Array): string {
  return [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
}
