/** Where, on a command line, the words of somebody else's command begin: one for a guest, or the one of `vmctl run`. */
import type { Command } from 'commander';

export interface CommandWords {
  /** With `--` before the first word of that command. */
  readonly words: readonly string[];
  /** How many words stand before `--`, without options and their values. */
  readonly before: number;
}

export interface WordsShape {
  /** So many words come first; the next one begins the command. Null where only `--` does. */
  readonly first: number | null;
  /** Whether the word after this option is its value. */
  readonly takesValue: (option: string) => boolean;
}

/**
 * Options before the command's first word are vmctl's, those after it the command's, as with `ssh` and `docker exec`.
 * `words` stand behind the name of vmctl's command.
 */
export function commandWords(words: readonly string[], { first, takesValue }: WordsShape): CommandWords {
  let before = 0;
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? '';
    if (word === '--') return { words, before };
    // A dash alone is a word, as it is for other programs.
    if (word.startsWith('-') && word !== '-') {
      if (takesValue(word)) at += 1;
      continue;
    }
    if (before === first) return { words: [...words.slice(0, at), '--', ...words.slice(at)], before };
    before += 1;
  }
  return { words, before };
}

/** The shape of a command of ours, from the options that it has been given. */
export function wordsShape(command: Command, after: number | '--'): WordsShape {
  return {
    first: after === '--' ? null : after,
    takesValue: (word) => command.options.some(({ required, long, short }) => required && [long, short].includes(word)),
  };
}
