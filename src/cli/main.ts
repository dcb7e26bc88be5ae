/** The command line: finds the command, runs it, and turns its failure into words and an exit code. */
import { Command, CommanderError } from 'commander';
import { VmctlError, toVmctlError } from '../errors.js';
import type { Cli } from './cli.js';
import { commandWords, wordsShape } from './command-words.js';
import { COMMANDS, type CommandEntry } from './commands.js';
import { EXIT, exitCodeOf } from './exit-code.js';
import { helpText } from './help.js';

declare const VMCTL_VERSION: string | undefined;

/** Set by the build; a run from the sources has none. */
const VERSION = typeof VMCTL_VERSION === 'string' ? VMCTL_VERSION : '0.0.0-source';

/** Runs one command line (without `node` and the script) and gives its exit code. Never throws, never exits. */
export async function runCli(words: readonly string[], cli: Cli): Promise<number> {
  try {
    if (words[0] === COMPLETE) {
      const { printCandidates } = await import('./completion/answer.js');
      await printCandidates(cli, words.slice(1), loadCommand);
      return EXIT.done;
    }
    const program = await buildProgram(words, cli);
    await program.parseAsync([...plainWords(words, program, cli)], { from: 'user' });
  } catch (error) {
    return await exitCodeAfter(error, cli);
  }
  return cli.exitCode;
}

/** The hidden command that the completion scripts of shells call. */
const COMPLETE = '__complete';

/** A command with its options and arguments, outside of any program; null for a name that is none. */
async function loadCommand(name: string, cli: Cli): Promise<Command | null> {
  const entry = COMMANDS[name];
  if (entry === undefined || !Object.hasOwn(COMMANDS, name)) return null;
  const command = new Command(name);
  (await entry.load()).command.configure(command, cli);
  return command;
}

async function buildProgram(words: readonly string[], cli: Cli): Promise<Command> {
  const program = new Command('vmctl')
    .description(
      helpText({ summary: 'Real virtual machines from one file: VMFile.kdl', examples: ['vmctl up', 'vmctl ssh web'] }),
    )
    .version(VERSION, '-V, --version', 'print the version')
    .usage('<command> [options]')
    .showSuggestionAfterError()
    .showHelpAfterError('(see: vmctl --help)')
    .enablePositionalOptions()
    .helpCommand('help [command]', 'show the help of a command')
    .addHelpText('after', '\nMore about a command: vmctl <command> --help');
  // The one that is asked for is found where a command line names it: in the first word, or after "help".
  const asked = words[0] === 'help' ? words[1] : words[0];
  for (const [name, entry] of Object.entries(COMMANDS)) await addCommand(program, { name, entry, asked, cli });
  for (const command of [program, ...program.commands, ...program.commands.flatMap((c) => c.commands)]) {
    // The descriptions tell the defaults themselves.
    command.configureHelp({ optionDescription: (option) => option.description });
    command.exitOverride().configureOutput({
      writeOut: (text) => void cli.stdout.write(text),
      writeErr: (text) => void cli.stderr.write(text),
      outputError: (text, write) => write(text),
    });
  }
  return program;
}

async function addCommand(
  program: Command,
  { name, entry, asked, cli }: { name: string; entry: CommandEntry; asked: string | undefined; cli: Cli },
): Promise<void> {
  const command = program.command(name).summary(entry.summary);
  if (name !== asked) return;
  const { command: module } = await entry.load();
  command.description(helpText(entry));
  command.showHelpAfterError(`(${whereOptionsStand(entry)}see: vmctl ${name} --help)`);
  module.configure(command, cli);
  for (const sub of command.commands) sub.showHelpAfterError(`(see: vmctl ${name} ${sub.name()} --help)`);
}

/** For whoever gave vmctl an option that was meant for another command. */
function whereOptionsStand({ commandAfter }: CommandEntry): string {
  if (commandAfter === undefined) return '';
  return `options of the command stand behind ${commandAfter === '--' ? '"--"' : 'its first word'}; `;
}

/** What commander is given: the command line with `--` before a command that is not vmctl's own. */
function plainWords(words: readonly string[], program: Command, cli: Cli): readonly string[] {
  const [name = '', ...rest] = words;
  // The help of a command that there is not would be that of vmctl, without a word about the mistake.
  const [topic = 'help'] = rest;
  if (name === 'help' && /^\w/.test(topic) && topic !== 'help' && !Object.hasOwn(COMMANDS, topic)) return rest;
  const command = program.commands.find((known) => known.name() === name);
  const after = command === undefined ? undefined : COMMANDS[name]?.commandAfter;
  if (command === undefined || after === undefined) return words;
  const marked = commandWords(rest, wordsShape(command, after));
  cli.wordsBeforeDashes = marked.before;
  return [name, ...marked.words];
}

async function exitCodeAfter(error: unknown, cli: Cli): Promise<number> {
  // Commander has printed its own message already; help and version come as an error with code 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  const told = toVmctlError(error);
  const { printError } = await import('./report.js');
  if (told.code !== 'ABORTED') printError(cli, told);
  else printError(cli, new VmctlError('ABORTED', 'interrupted'));
  return cli.exitCode === EXIT.done ? exitCodeOf(told) : cli.exitCode;
}
