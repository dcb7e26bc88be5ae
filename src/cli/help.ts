/** What the help of a command says above its options, and commands inside a command, which say the same. */
import type { Command } from 'commander';
import { capitalised } from '../util/words.js';

export interface CommandHelp {
  /** One line, without a capital and a full stop. */
  readonly summary: string;
  readonly examples: readonly [string, string];
}

/** What stands below the usage line: what it does, and two examples. */
export function helpText({ summary, examples }: CommandHelp): string {
  return `${capitalised(summary)}.\n\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}`;
}

/** Adds a command inside a command; it prints JSON where it is asked to. */
export function addSubcommand(parent: Command, name: string, help: CommandHelp): Command {
  return parent.command(name).summary(help.summary).description(helpText(help)).option('--json', 'print JSON', false);
}
