import { createTasks } from '../../../tasks/create.js';
import type { PullPolicy } from '../../model/pull-policy.js';
import { type CreateFlags, specOfFlags } from '../create-spec.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT } from '../exit-code.js';
import { showGraph } from '../graph.js';
import { PULL_OPTION, diskOption, memoryOption, nameOption, positiveOption } from '../options.js';
import { printNote } from '../report.js';
import { backendFor } from '../project.js';
import { openSession, settingsOf } from '../session.js';

interface Flags extends CreateFlags {
  readonly start: boolean;
  readonly pull?: PullPolicy;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .requiredOption('--name <name>', 'the name of the VM', nameOption)
      .option('--image <path>', 'a local disk image (this or --image-url)')
      .option('--image-url <url>', 'the URL of a disk image, downloaded once')
      .option('--vcpus <n>', 'virtual CPUs (default: 1)', positiveOption)
      .option('--memory <MiB>', 'memory in MiB, or a size such as 2GiB (default: 1024)', memoryOption)
      .option(
        '--disk <GiB>',
        'size of the disk in GiB, or a size such as 512MiB (default: that of the image)',
        diskOption,
      )
      .option('--bridge <bridge>', 'connect it to this bridge of the host (default: QEMU’s own network)')
      .option('--vnic <vnic>', 'on illumos: make a VNIC of this name for it')
      .option('--cloud-init <path>', 'a raw user-data document for cloud-init')
      .option('--ssh-key <path>', 'a public key that may log in; cloud-init puts it there')
      .option(...PULL_OPTION)
      .option('--start', 'start it as well', false)
      .action((flags: Flags) => create(cli, flags));
  },
};

async function create(cli: Cli, flags: Flags): Promise<void> {
  const { cwd, home } = cli;
  const spec = await specOfFlags(flags, { cwd, home, backend: backendFor(cli, await settingsOf(cli)) });
  const { env } = await openSession(cli, 'create', flags.pull === undefined ? {} : { 'images.pull': flags.pull });
  cli.onInterrupt = () => 'stopping what was begun';
  await showGraph(cli, env, createTasks(env, { spec, start: flags.start }), { json: false });
  if (cli.exitCode !== EXIT.done || spec.cloudInit !== null) return;
  printNote(
    cli,
    `without --ssh-key or --cloud-init, only who knows a user of the image can log in: vmctl console ${spec.name}`,
  );
}
