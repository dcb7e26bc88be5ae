/** The commands: a line each for the overview, and where the rest of a command is. Only the one that runs is loaded. */
import type { CommandModule } from './cli.js';

export interface CommandEntry {
  readonly summary: string;
  readonly examples: readonly [string, string];
  /** True where words after `--` belong to the guest. */
  readonly passesWords?: boolean;
  load(): Promise<{ readonly command: CommandModule }>;
}

export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  up: {
    summary: 'bring up the VMs of the VMFile: create, start and provision what is not there yet',
    examples: ['vmctl up', 'vmctl up web --parallel 1'],
    load: () => import('./commands/up.js'),
  },
  down: {
    summary: 'stop the VMs of the VMFile, or destroy them',
    examples: ['vmctl down', 'vmctl down --destroy'],
    load: () => import('./commands/down.js'),
  },
  start: {
    summary: 'start VMs that exist, without provisioning them',
    examples: ['vmctl start web', 'vmctl start web db'],
    load: () => import('./commands/start.js'),
  },
  stop: {
    summary: 'power off VMs, by force if they do not react',
    examples: ['vmctl stop web', 'vmctl stop web db --timeout 1m'],
    load: () => import('./commands/stop.js'),
  },
  destroy: {
    summary: 'stop VMs and remove every file of theirs',
    examples: ['vmctl destroy web', 'vmctl destroy web db --yes'],
    load: () => import('./commands/destroy.js'),
  },
  list: {
    summary: 'list all VMs of this user',
    examples: ['vmctl list', 'vmctl list --json'],
    load: () => import('./commands/list.js'),
  },
  status: {
    summary: 'show everything that is known about one VM',
    examples: ['vmctl status web', 'vmctl status web --json'],
    load: () => import('./commands/status.js'),
  },
  ssh: {
    summary: 'log in to a VM with the system’s ssh and the pinned host key',
    examples: ['vmctl ssh web', 'vmctl ssh web -- journalctl -b'],
    load: () => import('./commands/ssh.js'),
  },
  exec: {
    summary: 'run a command in a VM; its output and exit code pass through',
    examples: ['vmctl exec web -- systemctl is-active nginx', "vmctl exec web -- 'ps aux | grep nginx'"],
    load: () => import('./commands/exec.js'),
  },
  log: {
    summary: 'show what a VM printed on its console, or its provisioners',
    examples: ['vmctl log web', 'vmctl log web --provision --tail 20'],
    load: () => import('./commands/log.js'),
  },
  validate: {
    summary: 'check the VMFile and report every mistake in it',
    examples: ['vmctl validate', 'vmctl validate --file vms/VMFile.kdl --json'],
    load: () => import('./commands/validate.js'),
  },
  image: {
    summary: 'work with the image cache: pull, list, inspect, prune',
    examples: ['vmctl image pull https://cloud.example.org/debian.qcow2', 'vmctl image list'],
    load: () => import('./commands/image.js'),
  },
  doctor: {
    summary: 'check whether this host can run VMs, and tell what to type where it cannot',
    examples: ['vmctl doctor', 'vmctl doctor --json'],
    load: () => import('./commands/doctor.js'),
  },
  gc: {
    summary: 'remove what killed processes have left, and images that nobody uses',
    examples: ['vmctl gc --dry-run', 'vmctl gc --dry-run --images-older-than 30d --images-budget 20GiB'],
    load: () => import('./commands/gc.js'),
  },
};
