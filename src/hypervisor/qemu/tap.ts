/**
 * The TAP device that connects a VM to a Linux bridge. vmctl makes it, because QEMU's sandbox lets it start no helper.
 * That takes root, or CAP_NET_ADMIN; anybody else uses a device that was made for him under the VM's name for it.
 *
 * The device's name belongs to the VM alone, so whatever has it was made for this VM: one that a killed vmctl or a
 * guest that powered itself off left behind is used again at the next start and removed at the next stop.
 */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import type { VmSpec } from '../../model/spec.js';
import type { CommandRunner } from '../../util/exec.js';

/** A network interface, as `ip -details link` tells it. */
export interface Link {
  /** `bridge`, `tun`, …; null for a plain card. */
  readonly kind: string | null;
  /** The bridge that it is in. */
  readonly master: string | null;
  readonly up: boolean;
  /** Of a TAP device: a process has it open. */
  readonly connected: boolean;
}

/** A VM's TAP device and the bridge that it is to be in. */
export interface Tap {
  readonly name: string;
  readonly bridge: string;
}

/** The TAP device of a VM; null where its network has none. At most 15 characters (netdevice(7), `IFNAMSIZ`). */
export function tapOf({ name, project, network }: VmSpec): Tap | null {
  if (network.kind !== 'tap') return null;
  const digest = createHash('sha256')
    .update(JSON.stringify([project, name]))
    .digest('hex');
  return { name: `vmctl${digest.slice(0, 8)}`, bridge: network.bridge };
}

/**
 * Makes sure that the VM could be connected, and changes nothing.
 * Throws `HOST_UNSUPPORTED` with the commands to type where there is no such bridge, or no permission.
 */
export async function checkTap(tap: Tap, run: CommandRunner): Promise<void> {
  await checkBridge(tap.bridge, run);
  const link = await findLink(tap.name, run);
  if (link !== null && (link.connected || isReady(link, tap))) return;
  // Whether somebody may make one depends on capabilities, namespaces and the mode of /dev/net/tun: it is tried.
  await attachTap(tap, run);
  if (link === null) await removeTap(tap.name, run);
}

/** Makes the device, or takes the one that is there, and puts it into its bridge. Throws `HOST_UNSUPPORTED`. */
export async function attachTap(tap: Tap, run: CommandRunner): Promise<void> {
  const link = await findLink(tap.name, run);
  if (link?.connected === true) {
    throw new VmctlError('HOST_UNSUPPORTED', `the TAP device ${tap.name} is in use by another process`, {
      hint: `Find it with: sudo grep -l ${tap.name} /proc/[0-9]*/fdinfo/* 2>/dev/null`,
      fields: { device: tap.name },
    });
  }
  try {
    const user = String(process.getuid?.() ?? 0);
    if (link === null) await run('ip', ['tuntap', 'add', 'dev', tap.name, 'mode', 'tap', 'user', user]);
    if (link === null || !isReady(link, tap)) {
      await run('ip', ['link', 'set', 'dev', tap.name, 'master', tap.bridge, 'up']);
    }
  } catch (cause) {
    if (link === null) await removeTap(tap.name, run).catch(() => {});
    throw tapError(tap, cause);
  }
}

/** Removes the device unless a process has it open; one that this user may not remove stays for the next start. */
export async function removeTap(name: string, run: CommandRunner): Promise<void> {
  const link = await findLink(name, run);
  if (link === null || link.connected) return;
  try {
    await run('ip', ['link', 'delete', 'dev', name]);
  } catch (error) {
    if (!/not permitted|Cannot find device/.test(String(error))) throw error;
  }
}

/** Throws `HOST_UNSUPPORTED`, with the commands to type, where there is no such bridge. */
export async function checkBridge(bridge: string, run: CommandRunner): Promise<void> {
  const link = await findLink(bridge, run);
  const make = `sudo ip link add ${bridge} type bridge`;
  const raise = `sudo ip link set ${bridge} up`;
  const otherwise = 'Or use network "user", which needs none.';
  const fields = { bridge };
  if (link === null) {
    const hint = `Make one: ${make} && ${raise}. ${otherwise}`;
    throw new VmctlError('HOST_UNSUPPORTED', `this host has no bridge "${bridge}"`, { hint, fields });
  }
  if (link.kind !== 'bridge') {
    const hint = `See the bridges there are: ip link show type bridge. ${otherwise}`;
    throw new VmctlError('HOST_UNSUPPORTED', `the network interface "${bridge}" is not a bridge`, { hint, fields });
  }
  if (!link.up) {
    throw new VmctlError('HOST_UNSUPPORTED', `the bridge "${bridge}" is down`, { hint: `Type: ${raise}`, fields });
  }
}

function isReady(link: Link, { bridge }: Tap): boolean {
  return link.kind === 'tun' && link.up && link.master === bridge;
}

function tapError({ name, bridge }: Tap, cause: unknown): VmctlError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const make = `sudo ip tuntap add dev ${name} mode tap user "$USER"`;
  const message = `the TAP device ${name} cannot be made and put into the bridge "${bridge}": ${reason}`;
  return new VmctlError('HOST_UNSUPPORTED', message, {
    hint: `It takes root. Make it once, and vmctl uses it: ${make}; sudo ip link set ${name} master ${bridge} up. Or use network "user".`,
    cause,
    fields: { device: name, bridge },
  });
}

/** Null when there is no interface of that name. */
async function findLink(name: string, run: CommandRunner): Promise<Link | null> {
  try {
    return parseLink((await run('ip', ['-json', '-details', 'link', 'show', 'dev', name])).stdout);
  } catch (error) {
    if (error instanceof VmctlError && error.message.includes('does not exist')) return null;
    throw error;
  }
}

const linkSchema = v.tuple([
  v.object({
    flags: v.array(v.string()),
    master: v.optional(v.string()),
    linkinfo: v.optional(v.object({ info_kind: v.optional(v.string()) })),
  }),
]);

/** Reads the answer of `ip -json -details link show dev NAME` (iproute2). Throws `HOST_UNSUPPORTED` for anything else. */
export function parseLink(text: string): Link {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), linkSchema), text);
  if (!parsed.success) {
    throw new VmctlError('HOST_UNSUPPORTED', 'the program "ip" does not tell about network interfaces in JSON', {
      hint: 'network "tap" needs the one of iproute2: "apt-get install iproute2", "dnf install iproute", "apk add iproute2".',
    });
  }
  const [{ flags, master, linkinfo }] = parsed.output;
  return {
    kind: linkinfo?.info_kind ?? null,
    master: master ?? null,
    up: flags.includes('UP'),
    connected: flags.includes('LOWER_UP'),
  };
}
