/**
 * The first stage: what a VMFile declares, with the place of every value and no default filled in.
 * Sizes and durations are already numbers here, in the unit that each field's comment names.
 */
import type { FirmwareKind } from './spec.js';
import type { Located, SourceFile, Span } from './source.js';
import type { WarmLevel } from './warm.js';

/** A whole VMFile. */
export interface ProjectDefinition {
  readonly source: SourceFile;
  readonly vms: readonly VmDefinition[];
}

export interface VmDefinition {
  readonly name: Located<string>;
  /** The `vm` node from its first to its last character. */
  readonly span: Span;
  readonly image?: Located<ImageDeclaration>;
  readonly checksum?: Located<string>;
  /** `count=4` */
  readonly count?: Located<number>;
  readonly vcpus?: Located<number>;
  /** MiB */
  readonly memory?: Located<number>;
  /** Bytes */
  readonly disk?: Located<number>;
  readonly firmware?: Located<FirmwareKind>;
  readonly network?: Located<NetworkDeclaration>;
  readonly cloudInit?: Located<CloudInitDeclaration>;
  readonly ssh?: Located<SshDeclaration>;
  readonly dependsOn: readonly Located<string>[];
  readonly ready?: Located<ReadyDeclaration>;
  readonly warm?: Located<WarmLevel>;
  readonly provision: readonly Located<ProvisionDeclaration>[];
}

/** Exactly one of `image`, `image-url` and `image-preset`. */
export type ImageDeclaration =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'preset'; readonly preset: string };

export type NetworkDeclaration =
  | {
      readonly kind: 'user';
      readonly forwards: readonly Located<ForwardDeclaration>[];
      readonly lan?: Located<LanDeclaration>;
    }
  | { readonly kind: 'tap'; readonly bridge?: Located<string> }
  | { readonly kind: 'vnic'; readonly vnic: Located<string> }
  | { readonly kind: 'none' };

/** `forward HOST GUEST`; host 0 takes a free port. */
export interface ForwardDeclaration {
  readonly host: number;
  readonly guest: number;
}

export interface LanDeclaration {
  readonly name: string;
  readonly address?: Located<string>;
}

export interface CloudInitDeclaration {
  readonly hostname?: Located<string>;
  /** Path of a public key. */
  readonly sshKey?: Located<string>;
  /** Path of a raw user-data document. */
  readonly userData?: Located<string>;
  /** Path of a raw network-config document. */
  readonly networkConfig?: Located<string>;
}

export interface SshDeclaration {
  readonly user?: Located<string>;
  /** Path of a private key. */
  readonly privateKey?: Located<string>;
  /** Seconds. */
  readonly timeout?: Located<number>;
}

/** `each`: always, and after the VM was given what makes it different from the others of its group. */
export type RunPolicy = 'always' | 'once' | 'on-change' | 'each';

interface ProvisionCommon {
  readonly run?: Located<RunPolicy>;
}

export type ProvisionDeclaration =
  | (ProvisionCommon & {
      readonly kind: 'shell';
      /** Either the commands themselves or the path of a script. */
      readonly command:
        | { readonly kind: 'inline'; readonly text: Located<string> }
        | { readonly kind: 'script'; readonly path: Located<string> };
      readonly environment: readonly Located<{ readonly name: string; readonly value: string }>[];
      /** Seconds. */
      readonly timeout?: Located<number>;
    })
  | (ProvisionCommon & {
      readonly kind: 'file';
      /** A file or a folder. */
      readonly source: Located<string>;
      readonly destination: Located<string>;
      /** Seconds. */
      readonly timeout?: Located<number>;
    });

export interface ReadyDeclaration {
  readonly conditions: readonly Located<ReadyCondition>[];
  /** Seconds. */
  readonly timeout?: Located<number>;
}

/** Something that somebody may wait for in a guest: in `ready`, and by `waitFor` of the API. */
export type ReadyCondition =
  /** Something in the guest listens on this TCP port, on whatever address. */
  | { readonly kind: 'port'; readonly port: number }
  /** A web server of the guest answers with this status, or with any below 400 where it is null. */
  | { readonly kind: 'http'; readonly path: string; readonly port: number; readonly status: number | null }
  /** A line of the serial console since the VM was started last matches this regular expression of JavaScript. */
  | { readonly kind: 'log'; readonly pattern: string; readonly flags: string }
  /** A command of the login user's shell exits with 0. */
  | { readonly kind: 'shell'; readonly command: string }
  /** There is such a file or folder in the guest. */
  | { readonly kind: 'file'; readonly path: string }
  /** A systemd unit is active. */
  | { readonly kind: 'unit'; readonly unit: string }
  /** cloud-init has finished its last stage, without errors. */
  | { readonly kind: 'cloud-init' };
