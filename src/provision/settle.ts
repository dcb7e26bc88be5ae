/**
 * What a guest needs to hear when it goes on from saved memory, which knows nothing of the time that has passed, nor that
 * others went on from the same: the time, and new random numbers. It is told the same before it is saved, to see
 * whether that will work.
 *
 * A guest with the kernel's driver for `vmgenid` (Linux 5.18 and later) reseeds by itself. Cloud kernels have none, and
 * writing to /dev/urandom only stirs the pool that the next reseeding takes from, up to a minute later (random(4)). So
 * the kernel is told by ioctl, which no usual program of a guest does: by one of 200 bytes, which comes along.
 */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import type { SshConnection } from '../ssh/client.js';
import { AS_ROOT } from './as-root.js';
import { reseedProgram } from './reseed-program.js';

const TIMEOUT_MS = 60_000;
/** How long the rest of a boot is waited for before a guest is saved. */
const BOOT_SECONDS = 120;
/** Of these, the first ones make a name in the guest that nobody can know before. */
const RANDOM_BYTES = 80;
const NAME_BYTES = 16;

/** The codes by which the script tells what failed. */
const NO_CLOCK = 41;
const NO_RANDOM = 42;
const REASONS: Readonly<Record<number, string>> = {
  [NO_CLOCK]: 'its clock cannot be set',
  [NO_RANDOM]: 'its random numbers cannot be made new: it has no driver for vmgenid, and its kernel refuses the ioctl',
};

export interface SettleOptions {
  /** True: it is about to be saved, so what it has not written yet goes to its disk too. */
  readonly beforeSaving: boolean;
  readonly signal: AbortSignal;
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly clock?: () => number;
}

/** Sets the guest's clock and reseeds its random numbers; gives why that is not possible, or null. Throws `SSH_TRANSPORT`, `TIMEOUT`, `ABORTED`. */
export async function settleGuest(connection: SshConnection, options: SettleOptions): Promise<string | null> {
  const { beforeSaving, signal, clock = Date.now } = options;
  const script = settleScript({ now: clock(), random: randomBytes(RANDOM_BYTES), beforeSaving });
  const errors: Buffer[] = [];
  const result = await connection.exec(AS_ROOT, {
    stdin: script,
    onStderr: (chunk) => errors.push(chunk),
    timeoutMs: TIMEOUT_MS + (beforeSaving ? BOOT_SECONDS * 1000 : 0),
    signal,
  });
  if (result.exitCode === 0) return null;
  const known = result.exitCode === null ? undefined : REASONS[result.exitCode];
  if (known !== undefined) return known;
  const [words = ''] = Buffer.concat(errors).toString('utf8').trim().split('\n').slice(-1);
  return `its user cannot act as root${words === '' ? '' : ` (${words})`}`;
}

interface ScriptFacts {
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly random: Uint8Array;
  readonly beforeSaving: boolean;
}

/**
 * For any POSIX shell, with the programs of busybox at least; busybox takes whole seconds only. Every restore waits for
 * it, so it starts few programs, and what can be done beside something else is.
 */
export function settleScript({ now, random, beforeSaving }: ScriptFacts): string {
  const exact = (now / 1000).toFixed(3);
  const name = `vmctl-reseed.${Buffer.from(random.subarray(0, NAME_BYTES)).toString('hex')}`;
  return `PATH=$PATH:/usr/sbin:/sbin
umask 077
# Its own, or nothing: a name that is there already is not written to.
set -C
set_clock() {
  date -u -s @${exact} || date -u -s @${Math.round(now / 1000)}
} </dev/null >/dev/null 2>&1
reseed() {
  for folder in /run /dev/shm /tmp /var/tmp "$HOME"; do
    file=$folder/${name}
    { printf '${octal(reseedProgram())}' >"$file"; } 2>/dev/null || continue
    chmod 700 "$file" && printf '${octal(random.subarray(NAME_BYTES))}' | "$file" 2>/dev/null && return 0
    rm -f "$file"
  done
  return 1
}
${beforeSaving ? BEFORE_SAVING : ''}set_clock &
clock=$!
reseed || ls -d /sys/bus/acpi/drivers/vmgenid/*:* >/dev/null 2>&1 || exit ${NO_RANDOM}
wait $clock || exit ${NO_CLOCK}
${beforeSaving ? 'sync\n' : ''}exit 0
`;
}

/**
 * A guest can be logged in to before its boot is over: cloud-init starts its SSH server anew at the end. Saved before
 * that, it would do so in everybody who goes on from there.
 */
const BEFORE_SAVING = `[ ! -d /run/systemd/system ] || timeout ${BOOT_SECONDS} systemctl is-system-running --wait </dev/null >/dev/null 2>&1 || :
modprobe vmgenid 2>/dev/null
`;

/** Every byte as printf(1) of any shell reads it. */
function octal(bytes: Uint8Array): string {
  return [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
}
