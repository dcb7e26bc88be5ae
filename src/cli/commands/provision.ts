import { provisionTasks } from '../../../tasks/provision-again.js';
import { VmctlError } from '../../errors.js';
import { openProjectSession, overrideTimeout } from '../bring-up.js';
import type { Cli, CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { FILE_OPTION, NAME_OPTION, waitOption } from '../options.js';
import { readProject } from '../project.js';
import { printJsonLine } from '../report.js';
import { selectSpecs } from '../../../tasks/select-specs.js';

interface ProvisionFlags {
  readonly file?: string;
  readonly name: readonly string[];
  readonly timeout?: number;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'running VMs to provision (default: all of the VMFile)')
      .option(...FILE_OPTION)
      .option(...NAME_OPTION)
      .option('--timeout <duration>', 'how long to wait for SSH of each VM, such as 90s or 5m', waitOption)
      .option('--json', 'print the events as JSON, one object a line', false)
      .action((names: readonly string[], flags: ProvisionFlags) => provision(cli, [...names, ...flags.name], flags));
  },
};

async function provision(cli: Cli, names: readonly string[], flags: ProvisionFlags): Promise<void> {
  const { env, settings } = await openProjectSession(cli, 'provision', flags);
  const { source, specs } = await readProject(cli, settings);
  const chosen = selectSpecs(specs, names);
  const own = (await env.registry.list()).filter(({ project }) => project === source.path);
  const jobs = overrideTimeout(chosen.specs, flags.timeout).flatMap((spec) => {
    const entry = own.find(({ name }) => name === spec.name);
    return entry === undefined ? [] : [{ entry, spec }];
  });
  const missing = chosen.specs.filter(({ name }) => !own.some((entry) => entry.name === name)).map(notThere);
  cli.onInterrupt = () => 'ending the steps that run';
  const errors = [...chosen.errors, ...missing];
  const outcomes = await showGraph(cli, env, provisionTasks(env, jobs), { json: flags.json, errors });
  if (!flags.json) return;
  const counts = { provisioned: 0, unchanged: 0, failed: errors.length };
  for (const { result } of outcomes.values()) counts[result === 'done' ? 'provisioned' : result] += 1;
  printJsonLine(cli, { type: 'result', ...counts });
}

function notThere({ name }: { readonly name: string }): VmctlError {
  return new VmctlError('VM_NOT_FOUND', `cannot provision VM "${name}": it does not exist yet`, {
    hint: `Run: vmctl up ${name}`,
    fields: { vm: name },
  });
}
