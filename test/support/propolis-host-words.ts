/** How the commands of a fake illumos host answer. */

export interface Result {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** As a shell has it for a program that is not there. */
export const NOT_FOUND = 127;

export const printed = (lines: readonly string[]): Result => ({
  exitCode: 0,
  stdout: lines.map((line) => `${line}\n`).join(''),
  stderr: '',
});

export const failed = (words: string, exitCode = 1): Result => ({ exitCode, stdout: '', stderr: `${words}\n` });

/** The options of a command; those in `valued` take a word. */
export function flagsOf(
  words: readonly string[],
  valued: string,
): { readonly options: Readonly<Record<string, string>>; readonly names: readonly string[] } {
  const options: Record<string, string> = {};
  const names: string[] = [];
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] ?? '';
    const letter = word.startsWith('-') ? word.slice(1) : null;
    if (letter === null) names.push(word);
    else if (valued.includes(letter)) options[letter] = words[(i += 1)] ?? '';
    else options[letter] = '';
  }
  return { options, names };
}
