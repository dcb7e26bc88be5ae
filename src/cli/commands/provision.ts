import { provisionTasks } from '../../../tasks/provision-again.js';
import { VmctlError } from '../../errors.js';
import { openProjectSession } from '../bring-up.js';
import type { Cli, CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { FILE_OPTION, collect } from '../options.js';
import { readProject } from '../project.js';
import { selectSpecs } from '../../../tasks/select-specs.js';

interface ProvisionFlags {
  readonly file?: string;
  readonly name: readonly string[];
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'running VMs to provision (default: all of the VMFile)')
      .option(...FILE_OPTION)
      .option('--name <name>', 'the same as the argument; may be repeated', collect, [])
      .action((names: readonly string[], flags: ProvisionFlags) => provision(cli, [...names, ...flags.name], flags));
  },
};

async function provision(cli: Cli, names: readonly string[], flags: ProvisionFlags): Promise<void> {
  const { env, settings } = await openProjectSession(cli, 'provision', flags);
  const { source, specs } = await readProject(cli, settings);
  const chosen = selectSpecs(specs, names);
  const own = (await env.registry.list()).filter(({ project }) => project === source.path);
  const jobs = chosen.specs.flatMap((spec) => {
    const entry = own.find(({ name }) => name === spec.name);
    return entry === undefined ? [] : [{ entry, spec }];
  });
  const missing = chosen.specs.filter(({ name }) => !own.some((entry) => entry.name === name)).map(notThere);
  cli.onInterrupt = () => 'ending the steps that run';
  await showGraph(cli, env, provisionTasks(env, jobs), { json: false, errors: [...chosen.errors, ...missing] });
}

function notThere({ name }: { readonly name: string }): VmctlError {
  return new VmctlError('VM_NOT_FOUND', `cannot provision VM "${name}": it does not exist yet`, {
    hint: `Run: vmctl up ${name}`,
    fields: { vm: name },
  });
}
