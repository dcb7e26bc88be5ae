/** What the Propolis backend is told, what it takes where it is told nothing, and what it can do at all. */
import type { Endpoint, VmHandle } from '../../model/vm.js';
import type { CommandRunner } from '../../util/exec.js';
import type { Capabilities } from '../hypervisor.js';

export interface PropolisOptions {
  /** The program; null looks for `propolis-server` in PATH. */
  readonly binary?: string | null;
  /** The firmware that every VM starts with; null takes the usual place. */
  readonly bootrom?: string | null;
  /** The ZFS dataset below which the disks are. */
  readonly dataset?: string | null;
  /** The link that VNICs stand on; null takes the first physical one. */
  readonly link?: string | null;
  /** Where locks are. */
  readonly locks: string;
  /** Asks the guest to power off; settles when it was told. */
  readonly powerOff?: PowerOff;
  /** Runs the host's commands; default the real ones. */
  readonly run?: CommandRunner;
  /** Default: whether vmctl runs as root. */
  readonly isRoot?: boolean;
  readonly platform?: NodeJS.Platform;
  /** Default `DEFAULTS.limits`. */
  readonly limits?: Partial<Limits>;
}

/** How long what may take, in milliseconds. */
export interface Limits {
  /** A server until it answers. */
  readonly readyMs: number;
  /** Its answer to each request. */
  readonly answerMs: number;
  /** A VM until it runs. */
  readonly runMs: number;
  /** A VM until it has ended, once its power is cut. */
  readonly rundownMs: number;
}

export type PowerOff = (handle: VmHandle, ssh: Endpoint, signal: AbortSignal) => Promise<void>;

/** What is not configured. The bootrom is where the packages of Oxide put it. */
export const DEFAULTS = {
  binary: 'propolis-server',
  bootrom: '/opt/oxide/propolis-server/blob/OVMF_CODE.fd',
  dataset: 'rpool/vmctl',
  limits: { readyMs: 30_000, answerMs: 30_000, runMs: 60_000, rundownMs: 60_000 },
} as const;

const SUPPORTED = { supported: true } as const;
const no = (reason: string) => ({ supported: false, reason }) as const;
const INSTEAD = 'use network "vnic" name="vmctl0", or "none"';

export const NO_SUSPEND = no('Propolis can start and stop a VM, and not pause it');
export const NO_LINKS = no('Propolis has no way to pull the cable out of a VNIC');
export const NO_SNAPSHOTS = no('vmctl does not save what runs on Propolis');
export const NO_SCREEN = no('vmctl does not ask Propolis for a picture');

export const CAPABILITIES: Capabilities = {
  guestAccess: SUPPORTED,
  suspend: NO_SUSPEND,
  crash: SUPPORTED,
  reset: SUPPORTED,
  links: NO_LINKS,
  console: SUPPORTED,
  screenshot: NO_SCREEN,
  memorySnapshots: NO_SNAPSHOTS,
  networks: {
    user: no(`network "user" needs QEMU, which illumos does not run; ${INSTEAD}`),
    tap: no(`network "tap" needs a bridge of Linux; ${INSTEAD}`),
    vnic: SUPPORTED,
    none: SUPPORTED,
  },
};
