/** What `disconnect` and `connect` have in common: all but the direction. */
import { type Command, Option } from 'commander';
import { cableTasks } from '../../tasks/cable.js';
import { NICS, type Nic } from '../model/vm.js';
import type { Cli } from './cli.js';
import { showGraph } from './graph.js';
import { findEntries, openSession } from './session.js';

interface CableFlags {
  readonly nic?: Nic;
  readonly json: boolean;
}

export function configureCable(program: Command, cli: Cli, { up }: { readonly up: boolean }): void {
  const which = new Option('--nic <nic>', 'which cable: lan or outside (default: that of the LAN, if there is one)');
  program
    .argument('<name...>', up ? 'VMs whose cable is plugged in' : 'VMs whose cable is pulled out')
    .addOption(which.choices(NICS))
    .option('--json', 'print events as JSON, one a line', false)
    .action(async (names: readonly string[], { nic, json }: CableFlags) => {
      const { env } = await openSession(cli, up ? 'connect' : 'disconnect');
      const { entries, errors } = await findEntries(env, names);
      await showGraph(cli, env, cableTasks(env, entries, { nic: nic ?? null, up }), { json, errors });
    });
}
