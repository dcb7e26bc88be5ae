/** What may come next on a command line. Pure; who it is for and how it is shown is the shell's business. */

/** A word that fits, and what it is, for shells that show that. */
export interface Candidate {
  readonly word: string;
  readonly description: string;
}

/** A word of the command line that is no option: whose value it is decides what fits. */
export type ArgumentKind =
  /** VMs that exist; groups of them too where several may be named. */
  | { readonly kind: 'vm'; readonly several: boolean }
  /** VMs that the VMFile in this folder declares. */
  | { readonly kind: 'declared-vm' }
  | { readonly kind: 'choice'; readonly words: readonly string[] }
  /** A path of this host, which the shell knows best. */
  | { readonly kind: 'file' }
  /** `NAME:PATH` or a path. */
  | { readonly kind: 'copy' }
  | { readonly kind: 'unknown' };

export interface OptionShape {
  /** `--file` and `-f`, without what follows. */
  readonly words: readonly string[];
  readonly description: string;
  /** Null where it takes no value. */
  readonly value: ArgumentKind | null;
}

/** What a command takes, as its help tells it. */
export interface CommandShape {
  readonly options: readonly OptionShape[];
  readonly arguments: readonly ArgumentKind[];
  /** True where the last argument may be repeated. */
  readonly repeats: boolean;
  /** `pull`, `list` … of `image`; empty for most. */
  readonly subcommands: ReadonlyMap<string, { readonly description: string; readonly shape: CommandShape }>;
}

/** What is to be completed, before VMs are looked up. */
export type Wanted =
  | { readonly kind: 'words'; readonly candidates: readonly Candidate[] }
  | Exclude<ArgumentKind, { readonly kind: 'choice' }>;

/** `words` stand behind the command's name; `current` is the one that is being typed, and may be empty. */
export function wanted(shape: CommandShape, words: readonly string[], current: string): Wanted {
  const [first, ...rest] = words;
  const subcommand = first === undefined ? undefined : shape.subcommands.get(first);
  if (subcommand !== undefined) return wanted(subcommand.shape, rest, current);
  // What follows belongs to the guest.
  if (words.includes('--')) return { kind: 'unknown' };
  const value = optionOf(shape, words.at(-1))?.value ?? null;
  if (value !== null) return fitting(value);
  if (current.startsWith('-')) return { kind: 'words', candidates: optionCandidates(shape, words) };
  if (shape.subcommands.size > 0) return { kind: 'words', candidates: subcommandCandidates(shape) };
  const place = words.filter((word, i) => !word.startsWith('-') && !takesValue(shape, words[i - 1])).length;
  const argument = shape.arguments[place] ?? (shape.repeats ? shape.arguments.at(-1) : undefined);
  return argument === undefined ? { kind: 'unknown' } : fitting(argument);
}

function fitting(kind: ArgumentKind): Wanted {
  if (kind.kind !== 'choice') return kind;
  return { kind: 'words', candidates: kind.words.map((word) => ({ word, description: '' })) };
}

function optionOf(shape: CommandShape, word: string | undefined): OptionShape | undefined {
  return word === undefined ? undefined : shape.options.find((option) => option.words.includes(word));
}

function takesValue(shape: CommandShape, word: string | undefined): boolean {
  return (optionOf(shape, word)?.value ?? null) !== null;
}

/** Long options that are not there yet. */
function optionCandidates(shape: CommandShape, words: readonly string[]): readonly Candidate[] {
  return shape.options
    .filter((option) => !option.words.some((word) => words.includes(word)))
    .flatMap(({ words: names, description }) => {
      const long = names.find((name) => name.startsWith('--'));
      return long === undefined ? [] : [{ word: long, description }];
    });
}

function subcommandCandidates(shape: CommandShape): readonly Candidate[] {
  return [...shape.subcommands].map(([word, { description }]) => ({ word, description }));
}
