/** The shape of a configuration file, for editors. */

/** What `vmctl.config.ts`, `.vmctlrc` and `"vmctl"` in `package.json` may hold; all of it is optional. */
export interface VmctlConfig {
  /** The VMFile, if it is not `VMFile.kdl`; relative to the configuration file. */
  readonly file?: string;
  readonly concurrency?: {
    /** Guests that boot at the same time; default the number of cores, 2 at least. */
    readonly boots?: number;
    /** Downloads at the same time; default 3. */
    readonly downloads?: number;
  };
  /** What guests run on; default `auto`: KVM where it works. */
  readonly accelerator?: 'auto' | 'kvm' | 'tcg' | 'hvf';
  /** Seconds, or durations such as `"2m"`. */
  readonly timeouts?: {
    /** How long to wait for SSH; default 120 s, 480 s under software emulation. */
    readonly ssh?: number | string;
    /** How long a guest may take to power off; default 30 s. */
    readonly stop?: number | string;
  };
  readonly network?: {
    /** Files with dnsmasq's leases; `{bridge}` stands for the bridge's name. */
    readonly leases?: readonly string[] | string;
  };
  readonly images?: {
    /** A size such as `"20GiB"`, above which `vmctl gc` removes images that no VM uses. */
    readonly budget?: number | string;
  };
  /** Whether an `up` starts from frozen VMs where the VMFile says nothing; `false` also where it asks for it. */
  readonly warm?: boolean | 'disk';
  readonly snapshots?: {
    /** A size such as `"20GiB"`, the default, above which frozen VMs go that no VM stands on. */
    readonly budget?: number | string;
  };
  readonly qemu?: {
    /** Another QEMU: a name in PATH, or a path relative to the configuration file. */
    readonly binary?: string;
    /** Appended to QEMU's command line. */
    readonly extraArgs?: readonly string[] | string;
  };
  /** `noop` goes through every step without a guest. */
  readonly backend?: 'qemu' | 'noop';
  /** All VMs of an `up` boot before any is provisioned. */
  readonly bootFirst?: boolean;
  /** VMs of a program, a test runner or `vmctl run` stay when it ends. */
  readonly keep?: boolean;
  /** VMs of a program, a test runner or `vmctl run` stay for the next run of it. */
  readonly reuse?: boolean;
}

/** Gives its argument; in `vmctl.config.ts` it makes the editor complete and check it. */
export function defineConfig(config: VmctlConfig): VmctlConfig {
  return config;
}
