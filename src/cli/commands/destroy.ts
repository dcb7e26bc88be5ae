import { createInterface } from 'node:readline';
import { downTasks } from '../../../tasks/down.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT } from '../exit-code.js';
import { showGraph } from '../graph.js';
import { printNote } from '../report.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name...>', 'VMs to destroy')
      .option('-y, --yes', 'do not ask', false)
      .action((names: readonly string[], flags: { readonly yes: boolean }) => destroy(cli, names, flags.yes));
  },
};

async function destroy(cli: Cli, names: readonly string[], yes: boolean): Promise<void> {
  const { env } = await openSession(cli, 'destroy');
  const { entries, errors } = await findEntries(env, names);
  const doomed = entries.map(({ name }) => name).join(', ');
  // Nobody is asked where nobody can answer.
  const asks = !yes && entries.length > 0 && cli.stdin.isTTY === true && cli.stderr.isTTY === true;
  if (asks && !(await confirmed(cli, `Destroy ${doomed}, disks included?`))) {
    printNote(cli, 'nothing was destroyed');
    cli.exitCode = EXIT.failed;
    return;
  }
  const graph = await downTasks(env, { entries, destroy: true, graceMs: 0 });
  cli.onInterrupt = () => 'leaving what is not stopped yet as it is';
  await showGraph(cli, env, graph, { json: false, errors });
}

async function confirmed(cli: Cli, question: string): Promise<boolean> {
  cli.stderr.write(`${question} [y/N] `);
  const lines = createInterface({ input: cli.stdin });
  const close = () => lines.close();
  cli.signal.addEventListener('abort', close, { once: true });
  try {
    const answer = await new Promise<string>((resolve) => {
      lines.once('line', resolve);
      lines.once('close', () => resolve(''));
    });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    cli.signal.removeEventListener('abort', close);
    lines.close();
  }
}
