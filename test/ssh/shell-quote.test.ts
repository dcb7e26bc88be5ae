import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exportPrefix, shellQuote } from '../../src/ssh/shell-quote.js';
import { runCommand } from '../../src/util/exec.js';

/** Everything that a value can hold: any character but NUL. */
const anyText = fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\0', ''));
const shellText = fc
  .array(fc.constantFrom("'", '"', '$', '`', '\\', '\n', ' ', ';', '*', '!', '#', '~', '-', '$(id)', '${X}', 'a', 'ß'))
  .map((parts) => parts.join(''));

/** What a real shell makes of the source: its output in hexadecimal, so that nothing is trimmed. */
async function shellSays(source: string): Promise<string> {
  const { stdout } = await runCommand('/bin/sh', ['-s'], { input: `{ ${source}\n} | od -An -v -tx1 | tr -d ' \\n'` });
  return stdout;
}

function hex(texts: readonly string[]): string {
  return Buffer.from(texts.map((text) => `${text}|`).join('')).toString('hex');
}

describe('shellQuote', () => {
  it.each([
    ['', "''"],
    ['plain', "'plain'"],
    ["it's", "'it'\\''s'"],
    ['$HOME `id` "x" \\ \n', '\'$HOME `id` "x" \\ \n\''],
  ])('quotes %j', (value, quoted) => {
    expect(shellQuote(value)).toBe(quoted);
  });

  it('is read back by a real shell as it was, whatever the text', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(anyText, shellText), { minLength: 1, maxLength: 40 }), async (values) => {
        const words = values.map(shellQuote).join(' ');
        expect(await shellSays(`printf '%s|' ${words}`)).toBe(hex(values));
      }),
      { numRuns: 30 },
    );
  });

  it('refuses a NUL, which would end the word unseen', () => {
    expect(() => shellQuote('a\0b')).toThrow('a shell word cannot hold a NUL character');
  });
});

describe('exportPrefix', () => {
  it('is empty for no variables', () => {
    expect(exportPrefix({})).toBe('');
  });

  it('stands before any command', () => {
    expect(exportPrefix({ A: '1', _b2: "it's" })).toBe("export A='1'; export _b2='it'\\''s'; ");
  });

  it('gives its values to the processes of a real shell, whatever the text', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(anyText, shellText), async (value) => {
        const source = `${exportPrefix({ VMCTL_TEST: value })}env -u _ sh -c 'printf "%s|" "$VMCTL_TEST"'`;
        expect(await shellSays(source)).toBe(hex([value]));
      }),
      { numRuns: 20 },
    );
  });

  it.each(['', '1A', 'A-B', 'A B', 'A=B', 'A;id', '$(id)', 'Ä'])('refuses %j as a name', (name) => {
    expect(() => exportPrefix({ [name]: 'x' })).toThrow('cannot be the name of an environment variable');
  });
});
