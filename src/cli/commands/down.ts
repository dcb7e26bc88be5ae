import { downTasks } from '../../../tasks/down.js';
import type { Cli, CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { FILE_OPTION, NAME_OPTION, durationOption } from '../options.js';
import { printNote } from '../report.js';
import { assertNamedProject, openSession, projectPath } from '../session.js';
import { chooseByName, namesOf, unknownVm } from '../../../tasks/select-specs.js';

interface DownFlags {
  readonly file?: string;
  readonly name: readonly string[];
  readonly destroy: boolean;
  readonly timeout?: number;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'VMs to stop (default: all of the VMFile)')
      .option(...FILE_OPTION)
      .option(...NAME_OPTION)
      .option('--destroy', 'remove the VMs with every file of theirs', false)
      .option('--timeout <duration>', 'how long a guest may take to power off (default: 30s)', durationOption)
      .action((names: readonly string[], flags: DownFlags) => down(cli, [...names, ...flags.name], flags));
  },
};

/**
 * The VMs are those that the registry knows to belong to the VMFile: the file itself is not read, so that a VM can be
 * brought down whose file has a mistake, no longer declares it, or is gone.
 */
async function down(cli: Cli, names: readonly string[], flags: DownFlags): Promise<void> {
  const flagged = flags.file === undefined ? {} : { file: flags.file };
  const { env, settings } = await openSession(cli, 'down', flagged);
  const project = projectPath(cli, settings);
  const registered = await env.registry.list();
  await assertNamedProject(cli, { settings, registered });
  const own = registered.filter((entry) => entry.project === project);
  const { vms, errors } = chooseByName(own, names, (name) =>
    unknownVm(name, namesOf(own), `no VM of ${project} is called`),
  );
  const entries = names.length === 0 ? own : vms;
  if (own.length === 0 && names.length === 0) printNote(cli, `${project} has no VMs`);
  const graceMs = (flags.timeout ?? env.stopGraceSeconds) * 1000;
  const graph = await downTasks(env, { entries, destroy: flags.destroy, graceMs });
  cli.onInterrupt = () => 'leaving what is not stopped yet as it is';
  await showGraph(cli, env, graph, { json: false, errors });
}
