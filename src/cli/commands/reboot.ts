import { rebootTasks } from '../../../tasks/reboot.js';
import type { Cli, CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { durationOption } from '../options.js';
import { findEntries, openSession } from '../session.js';

interface RebootFlags {
  readonly hard: boolean;
  readonly timeout?: number;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name...>', 'VMs to reboot')
      .option('--hard', 'press the reset button: what a guest has not flushed to its disk is lost', false)
      .option('--timeout <duration>', 'how long a guest may take to power off (default: 30s)', durationOption)
      .option('--json', 'print events as JSON, one a line', false)
      .action((names: readonly string[], flags: RebootFlags) => reboot(cli, names, flags));
  },
};

async function reboot(cli: Cli, names: readonly string[], flags: RebootFlags): Promise<void> {
  const { env } = await openSession(cli, 'reboot');
  const { entries, errors } = await findEntries(env, names);
  const graceMs = (flags.timeout ?? env.stopGraceSeconds) * 1000;
  cli.onInterrupt = () => 'leaving what does not run yet as it is';
  await showGraph(cli, env, rebootTasks(env, entries, { hard: flags.hard, graceMs }), { json: flags.json, errors });
}
