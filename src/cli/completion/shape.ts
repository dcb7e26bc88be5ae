/** Reads from a command of commander what it takes, so that completion and help never differ. */
import type { Argument, Command, Option } from 'commander';
import type { ArgumentKind, CommandShape } from './candidates.js';

/** Commands whose VMs are those of the VMFile, whether they exist yet or not. */
const OF_THE_VMFILE: ReadonlySet<string> = new Set(['up', 'reload', 'provision']);

export function shapeOf(command: Command): CommandShape {
  return {
    options: command
      .createHelp()
      .visibleOptions(command)
      .map((option) => ({
        words: [option.short, option.long].filter((word) => word !== undefined),
        description: option.description,
        value: option.required || option.optional ? valueKind(option, command) : null,
      })),
    arguments: command.registeredArguments.map((argument) => argumentKind(argument, command)),
    repeats: command.registeredArguments.at(-1)?.variadic ?? false,
    subcommands: new Map(
      command.commands.map((sub) => [sub.name(), { description: sub.summary(), shape: shapeOf(sub) }]),
    ),
  };
}

function valueKind(option: Option, command: Command): ArgumentKind {
  if (option.argChoices !== undefined) return { kind: 'choice', words: option.argChoices };
  if (/<(path|file)>/.test(option.flags)) return { kind: 'file' };
  // `create --name` is a name that nobody has yet.
  return option.long === '--name' && command.name() !== 'create' ? vmKind(command, true) : { kind: 'unknown' };
}

function argumentKind(argument: Argument, command: Command): ArgumentKind {
  if (argument.argChoices !== undefined) return { kind: 'choice', words: argument.argChoices };
  switch (argument.name()) {
    case 'name':
      return vmKind(command, argument.variadic);
    case 'path':
      return { kind: 'file' };
    case 'src':
    case 'dst':
      return { kind: 'copy' };
    default:
      return { kind: 'unknown' };
  }
}

function vmKind(command: Command, several: boolean): ArgumentKind {
  return OF_THE_VMFILE.has(command.name()) ? { kind: 'declared-vm' } : { kind: 'vm', several };
}
