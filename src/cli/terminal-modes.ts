/**
 * What a guest's output has changed about the terminal that shows it, and how that is undone: a guest that is left in
 * the middle of an editor has hidden the cursor, or is on the other screen, and nobody there will put it right.
 *
 * Sequences are those of ECMA-48 and of xterm's "Control Sequences" (private modes, DECSTBM, DECKPAM, SCS).
 */
import { Buffer } from 'node:buffer';

/** Private modes that a terminal begins with: lines wrap, the cursor is visible. All others begin switched off. */
const ON_BY_DEFAULT = new Set(['7', '25']);

const ESC = '\u001b';
const CHANGES = new RegExp(
  [
    `${ESC}\\[\\?(?<modes>[\\d;]+)(?<set>[hl])`,
    `${ESC}\\[(?<style>[\\d;:]*)m`,
    `${ESC}\\[(?<region>[\\d;]*)r`,
    `${ESC}(?<keypad>[=>])`,
    `${ESC}\\((?<charset>[0-9A-Z])`,
    `(?<shift>[\\u000e\\u000f])`,
    `(?<reset>${ESC}c)`,
  ].join('|'),
  'g',
);
/** The begin of a sequence whose end has not come yet. */
const UNFINISHED = new RegExp(`${ESC}(?:\\[[?\\d;:]{0,64}|\\()?$`);

export class TerminalModes {
  /** What undoes each change that is in force, in the order in which they came. */
  readonly #undo = new Map<string, string>();
  #unfinished = '';

  /** Looks through a piece of output; a sequence may be cut anywhere. */
  see(chunk: Uint8Array): void {
    const text = this.#unfinished + Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString('latin1');
    this.#unfinished = UNFINISHED.exec(text)?.[0] ?? '';
    for (const { groups } of text.matchAll(CHANGES)) this.#note(groups ?? {});
  }

  /** The sequences that make the terminal what it was; an empty string where nothing has changed. */
  undo(): string {
    return [...this.#undo.values()].join('');
  }

  #note(found: Readonly<Record<string, string | undefined>>): void {
    const { modes, set, style, region, keypad, charset, shift, reset } = found;
    if (reset !== undefined) this.#undo.clear();
    for (const mode of modes?.split(';') ?? []) {
      const byDefault = ON_BY_DEFAULT.has(mode) ? 'h' : 'l';
      this.#keep(`mode ${mode}`, set !== byDefault, `${ESC}[?${mode}${byDefault}`);
    }
    if (style !== undefined) this.#keep('style', !/^0*$/.test(style), `${ESC}[0m`);
    // Setting the region moves the cursor, so that is saved and restored around it.
    if (region !== undefined) this.#keep('region', region !== '', `${ESC}7${ESC}[r${ESC}8`);
    if (keypad !== undefined) this.#keep('keypad', keypad === '=', `${ESC}>`);
    if (charset !== undefined) this.#keep('charset', charset !== 'B', `${ESC}(B`);
    if (shift !== undefined) this.#keep('shift', shift === '\u000e', '\u000f');
  }

  #keep(what: string, changed: boolean, undo: string): void {
    if (changed) this.#undo.set(what, undo);
    else this.#undo.delete(what);
  }
}
