/** The commands: a line each for the overview, and where the rest of a command is. Only the one that runs is loaded. */
import type { CommandModule } from './cli.js';
import type { CommandHelp } from './help.js';

export interface CommandEntry extends CommandHelp {
  /** Where a command of somebody else's begins: behind so many words, or only behind `--`. */
  readonly commandAfter?: number | '--';
  load(): Promise<{ readonly command: CommandModule }>;
}

export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  up: {
    summary: 'bring up the VMs of the VMFile: create, start and provision what is not there yet',
    examples: ['vmctl up', 'vmctl up web --dry-run'],
    load: () => import('./commands/up.js'),
  },
  down: {
    summary: 'stop the VMs of the VMFile, or destroy them',
    examples: ['vmctl down', 'vmctl down --destroy'],
    load: () => import('./commands/down.js'),
  },
  run: {
    summary: 'bring up VMs for as long as a command runs, such as tests',
    examples: ['vmctl run -- npm test', 'vmctl run --reuse web -- vitest run'],
    commandAfter: '--',
    load: () => import('./commands/run.js'),
  },
  reload: {
    summary: 'make VMs of the VMFile anew: destroy them, then bring them up as they are declared now',
    examples: ['vmctl reload web', 'vmctl reload --no-provision'],
    load: () => import('./commands/reload.js'),
  },
  provision: {
    summary: 'run the provisioners of running VMs again',
    examples: ['vmctl provision', 'vmctl provision web db'],
    load: () => import('./commands/provision.js'),
  },
  create: {
    summary: 'make a VM without a VMFile',
    examples: [
      'vmctl create --name scratch --image disk.qcow2 --start',
      'vmctl create --name build --image-url URL --vcpus 4 --disk 20',
    ],
    load: () => import('./commands/create.js'),
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
  suspend: {
    summary: 'pause the vCPUs of VMs, or save their memory and end them until they are resumed',
    examples: ['vmctl suspend web db', 'vmctl suspend web --to-disk'],
    load: () => import('./commands/suspend.js'),
  },
  resume: {
    summary: 'let suspended VMs go on',
    examples: ['vmctl resume web', 'vmctl resume web db'],
    load: () => import('./commands/resume.js'),
  },
  reboot: {
    summary: 'power VMs off and start them again, or reset them',
    examples: ['vmctl reboot web', 'vmctl reboot web db --hard'],
    load: () => import('./commands/reboot.js'),
  },
  crash: {
    summary: 'cut the power of VMs: what their guests have not flushed to their disks is lost',
    examples: ['vmctl crash db', 'vmctl crash db && vmctl start db'],
    load: () => import('./commands/crash.js'),
  },
  disconnect: {
    summary: 'pull out a network cable of VMs',
    examples: ['vmctl disconnect db', 'vmctl disconnect web db --nic outside'],
    load: () => import('./commands/disconnect.js'),
  },
  connect: {
    summary: 'plug in the network cable of VMs again',
    examples: ['vmctl connect db', 'vmctl connect web db --nic outside'],
    load: () => import('./commands/connect.js'),
  },
  reset: {
    summary: 'take VMs back to the moment at which they were frozen, disk and memory',
    examples: ['vmctl reset web', 'vmctl reset web db'],
    load: () => import('./commands/reset.js'),
  },
  snapshot: {
    summary: 'keep a VM as it is now, disk and memory, under a name',
    examples: ['vmctl snapshot web before-upgrade', 'vmctl snapshot web before-upgrade --delete'],
    load: () => import('./commands/snapshot.js'),
  },
  restore: {
    summary: 'take a VM back to a snapshot',
    examples: ['vmctl restore web before-upgrade', 'vmctl restore web before-upgrade --json'],
    load: () => import('./commands/restore.js'),
  },
  snapshots: {
    summary: 'list the snapshots of VMs',
    examples: ['vmctl snapshots', 'vmctl snapshots web --json'],
    load: () => import('./commands/snapshots.js'),
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
    examples: ['vmctl ssh web', 'vmctl ssh web journalctl -b'],
    commandAfter: 1,
    load: () => import('./commands/ssh.js'),
  },
  exec: {
    summary: 'run a command in a VM; its output and exit code pass through',
    examples: ['vmctl exec web -- systemctl is-active nginx', "vmctl exec web -- 'ps aux | grep nginx'"],
    commandAfter: 1,
    load: () => import('./commands/exec.js'),
  },
  cp: {
    summary: 'copy files and folders into a VM or out of it',
    examples: ['vmctl cp site.conf web:/tmp/', 'vmctl cp web:/var/log/nginx logs'],
    load: () => import('./commands/cp.js'),
  },
  'ssh-config': {
    summary: 'print settings with which ssh, scp, sftp and rsync reach the VMs by name',
    examples: ['vmctl ssh-config > vms.conf; ssh -F vms.conf web', 'vmctl ssh-config web --json'],
    load: () => import('./commands/ssh-config.js'),
  },
  screenshot: {
    summary: 'write what is on the screen of a VM into a PNG file',
    examples: ['vmctl screenshot web', 'vmctl screenshot web - > screen.png'],
    load: () => import('./commands/screenshot.js'),
  },
  console: {
    summary: 'attach this terminal to the serial console of a VM; Ctrl-] detaches',
    examples: ['vmctl console web', 'echo dmesg | vmctl console web'],
    load: () => import('./commands/console.js'),
  },
  log: {
    summary: 'show what a VM printed on its console, or its provisioners',
    examples: ['vmctl log web --provision --tail 20', 'vmctl log web --follow'],
    load: () => import('./commands/log.js'),
  },
  validate: {
    summary: 'check the VMFile and report every mistake in it',
    examples: ['vmctl validate', 'vmctl validate --file vms/VMFile.kdl --json'],
    load: () => import('./commands/validate.js'),
  },
  completion: {
    summary: 'print a script that makes a shell complete commands, options and names of VMs',
    examples: ['source <(vmctl completion bash)', 'vmctl completion fish > ~/.config/fish/completions/vmctl.fish'],
    load: () => import('./commands/completion.js'),
  },
  image: {
    summary: 'work with the image cache: pull, list, inspect, prune',
    examples: ['vmctl image pull https://cloud.example.org/debian.qcow2', 'vmctl image list'],
    load: () => import('./commands/image.js'),
  },
  warm: {
    summary: 'look at the VMs that others start from: list, prune',
    examples: ['vmctl warm list', 'vmctl warm prune --dry-run --older-than 7d'],
    load: () => import('./commands/warm.js'),
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
