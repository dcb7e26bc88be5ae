/**
 * The second stage: every decision made. Nothing here is optional, every path is absolute, and the whole of it is
 * plain JSON, because it is kept with the VM.
 */

import { unreachable } from '../errors.js';
import type { ReadyCondition, RunPolicy } from './definition.js';
import type { WarmLevel } from './warm.js';

export interface VmSpec {
  readonly name: string;
  /** Null for a VM that is not one of several. */
  readonly group: VmGroup | null;
  /** Absolute path of the VMFile that this VM belongs to; null for a VM made without one. */
  readonly project: string | null;
  readonly image: ImageSource;
  readonly vcpus: number;
  readonly memoryMib: number;
  /** The overlay's virtual size; null takes the image's. */
  readonly diskBytes: number | null;
  readonly firmware: FirmwareKind;
  readonly network: NetworkSpec;
  /** Null: no seed is attached. */
  readonly cloudInit: CloudInitSpec | null;
  readonly ssh: SshSpec;
  readonly dependsOn: readonly string[];
  /** Null: it is up as soon as it is provisioned. */
  readonly ready: ReadySpec | null;
  readonly provision: readonly ProvisionStep[];
  /** Null where the VMFile leaves that to whoever brings the VM up. */
  readonly warm: WarmLevel | null;
}

/** What a VM is one of: `worker-3` is the third of `vm "worker" count=4`. */
export interface VmGroup {
  readonly name: string;
  /** From 1. */
  readonly index: number;
}

export type ImageSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'url'; readonly url: string; readonly checksum: ChecksumSource | null };

export interface Checksum {
  readonly algorithm: 'sha256' | 'sha512';
  /** Lower-case hexadecimal digits. */
  readonly digest: string;
}

/** The URL of a file that lists checksums of several files, as `SHA256SUMS` does. */
export interface ChecksumList {
  readonly algorithm: 'list';
  readonly url: string;
}

/** Where the promise comes from that an image's bytes are held against. */
export type ChecksumSource = Checksum | ChecksumList;

/** What starts the guest. */
export type FirmwareKind = 'bios' | 'uefi';

export type NetworkSpec =
  | { readonly kind: 'user'; readonly forwards: readonly Forward[]; readonly lan: LanSpec | null }
  | { readonly kind: 'tap'; readonly bridge: string }
  | { readonly kind: 'vnic'; readonly vnic: string }
  | { readonly kind: 'none' };

/** A second card, on a segment of its own with the other VMs that name the same LAN. */
export interface LanSpec {
  readonly name: string;
  /** This VM's, an IPv4 address. */
  readonly address: string;
  /** Everybody on it, this VM too, in the order of the file. */
  readonly members: readonly LanMember[];
}

export interface LanMember {
  readonly vm: string;
  readonly address: string;
  /** What the others call it: the VM's name, and its host name where that is another one. */
  readonly names: readonly string[];
}

/** A TCP port of 127.0.0.1 that leads to a port of the guest. As a wish, host 0 means "any free one". */
export interface Forward {
  readonly host: number;
  readonly guest: number;
}

export interface CloudInitSpec {
  readonly hostname: string;
  /** Who makes user-data: vmctl with a key of its own, vmctl with the user's public key, or the user. */
  readonly userData:
    | { readonly kind: 'generated-key' }
    | { readonly kind: 'public-key'; readonly path: string }
    | { readonly kind: 'raw'; readonly path: string };
  readonly networkConfig: string | null;
}

export interface SshSpec {
  /** False where the VMFile has no `ssh` block: then nobody promised that the guest speaks SSH, and `up` does not wait for it. */
  readonly declared: boolean;
  readonly user: string;
  readonly privateKey: string | null;
  /** Null: the default, which depends on the accelerator. */
  readonly timeoutSeconds: number | null;
}

/** What has to hold before a VM counts as up, and before those that depend on it go on. */
export interface ReadySpec {
  /** At least one; all have to hold. */
  readonly conditions: readonly ReadyCondition[];
  /** For all of them together; null: the default, which depends on the accelerator. */
  readonly timeoutSeconds: number | null;
}

export type ProvisionStep = ShellStep | FileStep;

interface StepCommon {
  readonly run: RunPolicy;
  readonly timeoutSeconds: number | null;
}

export interface ShellStep extends StepCommon {
  readonly kind: 'shell';
  readonly command:
    | { readonly kind: 'inline'; readonly text: string }
    | { readonly kind: 'script'; readonly path: string };
  readonly environment: Readonly<Record<string, string>>;
}

export interface FileStep extends StepCommon {
  readonly kind: 'file';
  readonly source: string;
  readonly destination: string;
}

/** A step that succeeded in a VM, as it was then. */
export interface StepSuccess {
  /** Its place in the VMFile, from 1. */
  readonly number: number;
  /** Of everything that it does, the contents of its files included. */
  readonly digest: string;
}

/** The step in the few words that lists, logs and errors use: `shell apt-get update`, `file site.conf`. */
export function stepTitle(step: ProvisionStep): string {
  if (step.kind === 'file') return `file ${baseName(step.source)} to ${step.destination}`;
  if (step.command.kind === 'script') return `shell ${baseName(step.command.path)}`;
  const lines = step.command.text.split('\n').map((line) => line.trim());
  const first = lines.find((line) => line !== '') ?? '';
  return `shell ${first.length > 48 ? `${first.slice(0, 47)}…` : first}`;
}

/** A condition as it stands in a VMFile: `port 5432`, `http "/health" port=8080`. */
export function conditionTitle(condition: ReadyCondition): string {
  switch (condition.kind) {
    case 'port':
      return `port ${condition.port}`;
    case 'http': {
      const status = condition.status === null ? '' : ` status=${condition.status}`;
      return `http ${JSON.stringify(condition.path)} port=${condition.port}${status}`;
    }
    case 'log':
      return `log /${condition.pattern}/${condition.flags}`;
    case 'shell':
      return `shell ${JSON.stringify(condition.command)}`;
    case 'file':
      return `file ${JSON.stringify(condition.path)}`;
    case 'unit':
      return `unit ${JSON.stringify(condition.unit)}`;
    case 'cloud-init':
      return 'cloud-init';
    default:
      return unreachable(condition);
  }
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
