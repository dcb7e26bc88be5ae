/** Answers a shell that asks what may come next. It is never in the way: whatever fails, nothing is said. */
import type { Command } from 'commander';
import { discoverVmFile } from '../../vmfile/discover.js';
import { namesTaken } from '../../vmfile/groups.js';
import { parseVmFile } from '../../vmfile/parse.js';
import { namesOf } from '../../../tasks/select-specs.js';
import type { Cli } from '../cli.js';
import { commandWords, wordsShape } from '../command-words.js';
import { COMMANDS } from '../commands.js';
import { loadSettings } from '../../settings/load.js';
import { openReader } from '../session.js';
import { type Candidate, type Wanted, wanted } from './candidates.js';
import { shapeOf } from './shape.js';

type LoadCommand = (name: string, cli: Cli) => Promise<Command | null>;

/** `words` stand behind `vmctl`; the last one is being typed. */
export async function printCandidates(cli: Cli, words: readonly string[], load: LoadCommand): Promise<void> {
  const lines = await candidateLines(cli, words, load).catch(() => []);
  cli.stdout.write(lines.map((line) => `${line}\n`).join(''));
}

async function candidateLines(cli: Cli, words: readonly string[], load: LoadCommand): Promise<readonly string[]> {
  const current = words.at(-1) ?? '';
  const [name, ...before] = words.slice(0, -1);
  if (name === undefined) return asLines(commandCandidates(), current);
  if (name === 'help') return before.length > 0 ? [] : asLines(commandCandidates(), current);
  const command = await load(name, cli);
  if (command === null) return [];
  const after = COMMANDS[name]?.commandAfter;
  const marked = after === undefined ? before : commandWords(before, wordsShape(command, after)).words;
  const want = wanted(shapeOf(command), marked, current);
  return answerTo(cli, want, words);
}

async function answerTo(cli: Cli, want: Wanted, words: readonly string[]): Promise<readonly string[]> {
  const current = words.at(-1) ?? '';
  switch (want.kind) {
    case 'words':
      return asLines(want.candidates, current);
    case 'vm':
      return asLines(await existingVms(cli, want.several), current);
    case 'declared-vm':
      return asLines(await declaredVms(cli, words), current);
    case 'copy': {
      const names = (await existingVms(cli, false)).map(({ word, description }) => ({ word: `${word}:`, description }));
      return [...asLines(names, current), FILES];
    }
    case 'file':
      return [FILES];
    case 'unknown':
    default:
      return [];
  }
}

/** Asks the shell for paths. */
const FILES = ':files';

function asLines(candidates: readonly Candidate[], current: string): readonly string[] {
  return candidates
    .filter(({ word }) => word.startsWith(current))
    .map(({ word, description }) => (description === '' ? word : `${word}\t${description}`));
}

function commandCandidates(): readonly Candidate[] {
  return Object.entries(COMMANDS).map(([word, { summary }]) => ({ word, description: summary }));
}

async function existingVms(cli: Cli, several: boolean): Promise<readonly Candidate[]> {
  const entries = await openReader(cli, 'completion').registry.list();
  const words = several ? namesOf(entries) : entries.map(({ name }) => name);
  return words.map((word) => {
    const owner = entries.find(({ name, group }) => name === word || group === word);
    return { word, description: owner?.project ?? 'made without a VMFile' };
  });
}

/** Also those of a VMFile that has a mistake elsewhere: a person may well be in the middle of editing it. */
async function declaredVms(cli: Cli, words: readonly string[]): Promise<readonly Candidate[]> {
  const flag = words.findIndex((word) => word === '--file' || word === '-f');
  const file = flag === -1 ? (await loadSettings(cli)).file : words[flag + 1];
  const source = await discoverVmFile({ cwd: cli.cwd, ...(file === undefined ? {} : { file }) });
  return parseVmFile(source)
    .project.vms.flatMap(namesTaken)
    .map((word) => ({ word, description: '' }));
}
