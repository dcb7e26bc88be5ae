/**
 * Every directory and file name in the state directory, which is `$VMCTL_STATE`, else `$XDG_DATA_HOME/vmctl`, else
 * `~/.local/share/vmctl`.
 *
 * The VMs of a program, a test runner or `vmctl run` are in `runs/<id>/`: a state directory of its own, so that nothing
 * of the user's VMs is touched, whose `images` is a link to the one that all share. It is here, and not in a folder for
 * caches or run time, because disks are too large for a memory file system and belong beside the images that they
 * stand on.
 *
 * A Unix socket path has 107 usable bytes (`sun_path`, unix(7)), and a state directory may be longer. QEMU therefore
 * runs with the VM's directory as its working directory and is given bare file names; vmctl connects through
 * `util/unix-socket`.
 */
import { isAbsolute, join } from 'node:path';

/** Directories are for their owner alone: they hold private keys. */
export const DIRECTORY_MODE = 0o700;
export const PRIVATE_FILE_MODE = 0o600;

/** The names inside `vms/<name>/`. The first nine are fixed; what follows is ours. */
export const VM_FILES = {
  overlay: 'overlay.qcow2',
  seed: 'seed.iso',
  qmpSocket: 'qmp.sock',
  consoleSocket: 'console.sock',
  consoleLog: 'console.log',
  provisionLog: 'provision.log',
  privateKey: 'id_ed25519_generated',
  publicKey: 'id_ed25519_generated.pub',
  pidfile: 'pidfile',
  /** What was prepared: the handle. Written once, never changed. */
  handle: 'vm.json',
  /** What happened to it since: provisioned or not, the last failure. */
  record: 'record.json',
  /** The running process: pid, its start time, accelerator, forwards. */
  runtime: 'runtime.json',
  /** The pinned host key, in OpenSSH's format, under the alias of the VM's name. */
  knownHosts: 'known_hosts',
  /** What a copy of another VM has of its own: its host key and its machine-id. */
  identity: 'identity.json',
  /** What a guest with UEFI keeps over its restarts: a private copy of the firmware's variables. */
  firmwareVariables: 'firmware-variables.fd',
  /** The guest's memory, where the VM may be frozen and this is its first run. */
  memory: 'memory',
  /** How a machine's state comes out of QEMU and into it. */
  stateSocket: 'state.sock',
  /** The other end of a serial port of the guest, over which a program in it can be spoken to. */
  portSocket: 'port.sock',
  /** A disk that is about to take the place of the other. */
  nextOverlay: 'overlay.next.qcow2',
  /** What was kept of the VM under names, one folder for each. */
  snapshots: 'snapshots',
  /** Its memory and devices, where it was suspended to the disk. */
  suspended: 'suspended.state',
  /** What its disk was then. */
  suspendedFacts: 'suspended.json',
  /** There, and empty, since the guest was asked to power off, until it is started the next time. */
  stopping: 'stopping',
  /** There, and empty, since somebody cut the VM's power, until it is started the next time; its time is that of the cut. */
  powerCut: 'power-cut',
  /** QEMU's own words: its stdout and stderr. */
  qemuLog: 'qemu.log',
  /** The words of the VM's propolis-server: its stdout and stderr. */
  propolisLog: 'propolis.log',
  /** What a VM of Propolis has outside of its directory. */
  propolisParts: 'propolis.json',
  /** How much of what a propolis-server remembers of the console is in `console.log`. */
  propolisConsole: 'propolis-console.json',
} as const;

/** The names inside `runs/<id>/`, besides those of every state directory. */
export const RUN_FILES = {
  /** Whose the VMs are, and how long they live. */
  lease: 'lease.json',
  /** How another process reaches the VMs. */
  connection: 'connection.json',
  /** The same for the system's ssh. */
  sshConfig: 'ssh_config',
} as const;

export interface StatePaths {
  readonly root: string;
  /** False where nothing is to outlive this process, and so nothing has to survive a power cut. */
  readonly durable: boolean;
  /** The registry: which VMs exist. */
  readonly registry: string;
  readonly registryLock: string;
  readonly images: string;
  /** Frozen VMs that others start from. */
  readonly warm: string;
  readonly vms: string;
  readonly locks: string;
  /** State directories of programs, test runners and `vmctl run`. */
  readonly runs: string;
  /** Held while a run's directory is made or looked at for removal. */
  readonly runsLock: string;
  /** What was found out about this host, such as whether guests run on KVM. */
  readonly host: string;
  vm(name: string): string;
  vmLock(name: string): string;
  /** Held by whoever is attached to a VM's serial console, because QEMU serves one at a time. */
  consoleLock(name: string): string;
  /** Where a VM is prepared before it is renamed into place; only the holder of the VM's lock touches it. */
  vmStaging(name: string): string;
  run(id: string): string;
  /** Where the VM frozen under this key is, complete. */
  frozen(key: string): string;
  /** Where it is made; only the holder of its lock touches it. */
  frozenStaging(key: string): string;
  /** Held while it is made, removed, or about to get a VM that stands on it. */
  frozenLock(key: string): string;
  /** Held by the process that works with the VMs that are kept warm in a slot. */
  warmLock(slot: string): string;
}

export function statePaths(root: string): StatePaths {
  const vms = join(root, 'vms');
  const locks = join(root, 'locks');
  return {
    root,
    durable: true,
    registry: join(root, 'vms.json'),
    registryLock: join(locks, 'registry.lock'),
    images: join(root, 'images'),
    ...warmPaths(root),
    vms,
    locks,
    runs: join(root, 'runs'),
    runsLock: join(locks, 'runs.lock'),
    host: join(root, 'host.json'),
    vm: (name) => join(vms, name),
    vmLock: (name) => join(locks, `vm-${name}.lock`),
    consoleLock: (name) => join(locks, `console-${name}.lock`),
    // A VM's name starts with a letter or a digit, so no VM can be called this.
    vmStaging: (name) => join(vms, `.staging-${name}`),
    run: (id) => join(root, 'runs', id),
    warmLock: (slot) => join(locks, `warm-${slot}.lock`),
  };
}

function warmPaths(root: string): Pick<StatePaths, 'warm' | 'frozen' | 'frozenStaging' | 'frozenLock'> {
  const warm = join(root, 'warm');
  return {
    warm,
    frozen: (key) => join(warm, key),
    frozenStaging: (key) => join(warm, `.${key}.partial`),
    frozenLock: (key) => join(warm, `${key}.lock`),
  };
}

/** The state directory of a run: what is large, and what is known of the host, is shared with the one that it is in. */
export function runPaths(base: StatePaths, id: string): StatePaths {
  return { ...statePaths(base.run(id)), ...warmPaths(base.root), images: base.images, host: base.host };
}

/** The state directory for an environment: `VMCTL_STATE`, else by the XDG Base Directory Specification: a relative value is ignored. */
export function defaultStateRoot(environment: Readonly<Record<string, string | undefined>>, home: string): string {
  const chosen = environment['VMCTL_STATE'];
  if (chosen !== undefined && isAbsolute(chosen)) return chosen;
  const declared = environment['XDG_DATA_HOME'];
  const base = declared !== undefined && isAbsolute(declared) ? declared : join(home, '.local', 'share');
  return join(base, 'vmctl');
}
