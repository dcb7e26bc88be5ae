/** VMs that a program declares: the nodes of a VMFile as objects, under the same names in camel case. */

/** A VM, as `vm "NAME" { … }` has it in a VMFile; relative paths begin in the current folder. */
export interface VmDeclaration {
  /** Path of a disk image, which is never written. Exactly one of `image`, `imageUrl` and `imagePreset` is given. */
  readonly image?: string;
  /** `https://…`, `http://…` or `file://…`; downloaded once and cached. */
  readonly imageUrl?: string;
  /** The name of a public cloud image that vmctl knows. */
  readonly imagePreset?: string;
  /** `sha256:…` or `sha512:…` of the image at `imageUrl`. */
  readonly checksum?: string;
  /** So many VMs, called `NAME-1`, `NAME-2` and so on; default 1, which keeps the plain name. */
  readonly count?: number;
  /** Default 1. */
  readonly vcpus?: number;
  /** MiB, or a size such as `"2GiB"`; default 1024. */
  readonly memory?: number | string;
  /** GiB, or a size such as `"20GiB"`; default that of the image. */
  readonly disk?: number | string;
  /** Default `bios`. */
  readonly firmware?: 'bios' | 'uefi';
  /** Default `user`: no rights are needed, and the host reaches the guest through forwards. */
  readonly network?: 'user' | 'tap' | 'none' | UserNetworkDeclaration | TapNetworkDeclaration;
  /** Makes the user, the keys and the name; `true` by default, unlike in a VMFile. */
  readonly cloudInit?: boolean | CloudInitOptions;
  /** That the guest can be logged in to; `true` by default, unlike in a VMFile. */
  readonly ssh?: boolean | SshOptions;
  /** VMs that are provisioned and ready before this one starts. */
  readonly dependsOn?: string | readonly string[];
  /** What has to hold before it is up, and before VMs that depend on it start; default nothing. */
  readonly ready?: ReadyOptions;
  /** Whether the next `up` starts from the provisioned VM: its memory and disk, or its disk alone. */
  readonly warm?: boolean | 'disk';
  /** What is done in the guest, in this order. */
  readonly provision?: readonly ProvisionStepDeclaration[];
}

export interface UserNetworkDeclaration {
  readonly kind: 'user';
  /** Ports of the guest; `vm.port(guest)` tells where each is reached. A bare number takes a free port of the host. */
  readonly forwards?: readonly (number | { readonly guest: number; readonly host?: number })[];
  /** The name of a private network that it is on with the other VMs that name it; an address by its place by default. */
  readonly lan?: string | { readonly name: string; readonly address?: string };
}

export interface TapNetworkDeclaration {
  readonly kind: 'tap';
  /** Default `br0`. */
  readonly bridge?: string;
}

export interface CloudInitOptions {
  /** Default the VM's name. */
  readonly hostname?: string;
  /** Path of a public key; default a key that is made for this VM. */
  readonly sshKey?: string;
  /** Path of a user-data document of your own. */
  readonly userData?: string;
  /** Path of a network-config document of your own. */
  readonly networkConfig?: string;
}

export interface SshOptions {
  /** Default `vm`, or what the image preset says. */
  readonly user?: string;
  /** Path of a private key. */
  readonly privateKey?: string;
  /** Seconds, or a duration such as `"5m"`: how long to wait for the first login. */
  readonly timeout?: number | string;
}

type OneOrMore<T> = T | readonly T[];

/** What a VM is waited for; all of it has to hold. A list is as many conditions. See also `waitFor`. */
export interface ReadyOptions {
  /** Something in the guest listens on this TCP port. */
  readonly port?: OneOrMore<number>;
  /** A GET is answered with this status, or with any below 400. */
  readonly http?: OneOrMore<HttpCondition>;
  /** A line of the serial console since the last start: one that contains the text, or that matches. */
  readonly log?: OneOrMore<string | RegExp>;
  /** A command of the VM's user exits with 0. */
  readonly shell?: OneOrMore<string>;
  /** This path exists. */
  readonly file?: OneOrMore<string>;
  /** This systemd unit is active. */
  readonly unit?: OneOrMore<string>;
  /** cloud-init has finished. */
  readonly cloudInit?: boolean;
  /** Seconds, or a duration such as `"90s"`, for all of it; default 2 min, 8 min under software emulation. */
  readonly timeout?: number | string;
}

export interface HttpCondition {
  /** Default `/`. */
  readonly path?: string;
  /** Default 80. */
  readonly port?: number;
  /** Default any below 400. */
  readonly status?: number;
}

interface StepOptions {
  /** Default `always`. With `each`, which comes after all others, it knows which VM it is in: `VMCTL_NAME`, `VMCTL_INDEX`. */
  readonly run?: 'always' | 'once' | 'on-change' | 'each';
  /** Seconds, or a duration such as `"5m"`; default none. */
  readonly timeout?: number | string;
}

/** One step: commands, a script of this host, or a file or folder to copy. */
export type ProvisionStepDeclaration =
  | (StepOptions & { readonly inline: string; readonly env?: Readonly<Record<string, string>> })
  | (StepOptions & { readonly script: string; readonly env?: Readonly<Record<string, string>> })
  | (StepOptions & { readonly source: string; readonly destination: string });
