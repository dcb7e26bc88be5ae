/**
 * KDL 2 text to a tree that knows where everything was written. The one importer of kdljs, whose grammar decides what
 * is KDL; kdljs itself has no positions for nodes, loses the order of entries and lets a repeated property win
 * silently, so its parser is subclassed and watched while it works. What KDL means to vmctl is not known here.
 */
import { KdlParser, lexer, type ParsedNode, type Rule, type Token } from 'kdljs/src/parser/kdl.js';
import type { Located, Span } from '../model/source.js';
import type { KdlEntry, KdlNode, KdlValue } from './kdl-tree.js';

/** What kdljs says of a piece of text: its nodes, or where it stopped understanding (a zero-width span at the end). */
export type KdlResult =
  | { readonly ok: true; readonly nodes: readonly KdlNode[] }
  | { readonly ok: false; readonly span: Span; readonly message: string };

/** Reads a KDL 2 document. Spans count from `offset`, for text that was cut out of a larger document. */
export function parseKdl(text: string, offset = 0): KdlResult {
  const { tokens, errors } = lexer.tokenize(text);
  const [unknown] = errors;
  if (unknown !== undefined) {
    const start = unknown.offset + offset;
    return { ok: false, span: { start, end: start + unknown.length }, message: unknown.message };
  }
  const misread = tokens.find(isMisreadRawString);
  if (misread !== undefined) {
    return { ok: false, span: shift(spanOf(misread), offset), message: 'a multi-line string starts with a new line' };
  }
  try {
    return locatingParser().read({ text, offset, tokens: spaceOutBraces(tokens) });
  } catch (error) {
    // Only nesting thousands of blocks or comments deep exhausts the stack.
    if (!(error instanceof RangeError)) throw error;
    return { ok: false, span: { start: offset, end: offset + text.length }, message: 'nested too deeply' };
  }
}

let parser: LocatingParser | undefined;

/** Chevrotain analyses the grammar for every parser that is made, which takes long enough to do it once. */
function locatingParser(): LocatingParser {
  parser ??= new LocatingParser();
  return parser;
}

interface NodeFrame {
  readonly kind: 'node';
  name: Span | null;
  type: Located<string> | null;
  readonly entries: KdlEntry[];
  block: Span | null;
}

type Frame =
  | NodeFrame
  | { readonly kind: 'property'; name: Span | null; value: KdlValue | null }
  | { readonly kind: 'argument'; type: Located<string> | null; value: Span | null }
  | { readonly kind: 'tag' };

interface Input {
  readonly text: string;
  readonly offset: number;
  readonly tokens: readonly Token[];
}

class LocatingParser extends KdlParser {
  #text = '';
  #offset = 0;
  #frames: Frame[] = [];
  #located = new WeakMap<ParsedNode, KdlNode>();

  constructor() {
    super();
    this.#watchNode();
    this.#watchEntries();
    this.#watchParts();
  }

  read(input: Input): KdlResult {
    this.#text = input.text;
    this.#offset = input.offset;
    this.#frames = [];
    this.input = input.tokens;
    const nodes = this.document();
    const [error] = this.errors;
    if (error === undefined) return { ok: true, nodes: nodes.map((node) => this.#locationOf(node)) };
    return { ok: false, span: this.#placeOf(error.token ?? error.previousToken), message: error.message };
  }

  #watchNode(): void {
    watch(this, this.node, (run) => {
      const frame: NodeFrame = { kind: 'node', name: null, type: null, entries: [], block: null };
      const result = this.#inside(frame, run).value;
      if (frame.name !== null) this.#located.set(result, this.#finishNode(result, frame, frame.name));
      return result;
    });
    watch(this, this.nodeChildren, (run) => {
      const dashed = this.#isSlashDashed();
      const { value, span } = this.#measure(run);
      const frame = this.#frames.at(-1);
      if (!dashed && frame?.kind === 'node') frame.block = span;
      return value;
    });
  }

  #watchEntries(): void {
    watch(this, this.property, (run) => {
      const dashed = this.#isSlashDashed();
      const frame: Frame = { kind: 'property', name: null, value: null };
      const result = this.#inside(frame, run).value;
      const parent = this.#frames.at(-1);
      if (!dashed && parent?.kind === 'node' && frame.name !== null && frame.value !== null) {
        const name = { value: result[0], span: frame.name };
        parent.entries.push({ kind: 'property', name, value: frame.value });
      }
      return result;
    });
    watch(this, this.argument, (run) => {
      const dashed = this.#isSlashDashed();
      const frame: Frame = { kind: 'argument', type: null, value: null };
      const result = this.#inside(frame, run).value;
      const parent = this.#frames.at(-1);
      if (dashed || frame.value === null) return result;
      const text = this.#text.slice(frame.value.start - this.#offset, frame.value.end - this.#offset);
      const value: KdlValue = { value: result[0], span: frame.value, type: frame.type, text };
      if (parent?.kind === 'property') parent.value = value;
      else if (parent?.kind === 'node') parent.entries.push({ kind: 'argument', value });
      return result;
    });
  }

  #watchParts(): void {
    watch(this, this.tag, (run) => {
      const { value, span } = this.#inside({ kind: 'tag' }, run);
      const parent = this.#frames.at(-1);
      if (parent?.kind === 'node' || parent?.kind === 'argument') parent.type = { value, span };
      return value;
    });
    watch(this, this.value, (run) => {
      const { value, span } = this.#measure(run);
      const parent = this.#frames.at(-1);
      if (parent?.kind === 'argument') parent.value = span;
      return value;
    });
    watch(this, this.string, (run) => {
      const { value, span } = this.#measure(run);
      const parent = this.#frames.at(-1);
      if (parent?.kind === 'node' || parent?.kind === 'property') parent.name ??= span;
      return value;
    });
    // kdljs cuts code points above U+FFFF down to 16 bits.
    watch(this, this.unicodeEscape, (run) => {
      const digits = this.LA(1).image.slice('\\u{'.length, -1);
      run();
      return String.fromCodePoint(Number.parseInt(digits, 16));
    });
  }

  #finishNode(node: ParsedNode, frame: NodeFrame, name: Span): KdlNode {
    const start = frame.type?.span.start ?? name.start;
    const headEnd = frame.entries.at(-1)?.value.span.end ?? name.end;
    return {
      name: { value: node.name, span: name },
      type: frame.type,
      entries: frame.entries,
      block: frame.block,
      children: node.children.map((child) => this.#locationOf(child)),
      span: { start, end: Math.max(headEnd, frame.block?.end ?? 0) },
      head: { start, end: headEnd },
      damage: { head: false, body: false },
    };
  }

  #locationOf(node: ParsedNode): KdlNode {
    const located = this.#located.get(node);
    if (located === undefined) throw new Error(`no location was recorded for the KDL node ${node.name}`);
    return located;
  }

  #inside<T>(frame: Frame, run: () => T): { readonly value: T; readonly span: Span } {
    this.#frames.push(frame);
    try {
      return this.#measure(run);
    } finally {
      this.#frames.pop();
    }
  }

  #measure<T>(run: () => T): { readonly value: T; readonly span: Span } {
    const start = this.LA(1).startOffset;
    const value = run();
    return { value, span: this.#place({ start, end: this.LA(0).endOffset + 1 }) };
  }

  /** Where a token is; the end of the text for its end, which has no place in kdljs. */
  #placeOf(token: Token | undefined): Span {
    const end = this.#offset + this.#text.length;
    return token === undefined || Number.isNaN(token.startOffset) ? { start: end, end } : this.#place(spanOf(token));
  }

  #place(span: Span): Span {
    return shift(span, this.#offset);
  }

  /** True when `/-` stands before the next token: what follows is parsed but not part of the document. */
  #isSlashDashed(): boolean {
    for (let distance = 0; ; distance -= 1) {
      const name = this.#typeAt(distance);
      if (name === 'BlockComment') return true;
      if (!SPACE_TOKENS.has(name)) return false;
    }
  }

  /**
   * kdljs finds out whether a property or an argument comes next by trying it, which throws for every argument. One
   * look at the tokens tells the same and is several times faster.
   */
  protected override BACKTRACK(rule: Rule<unknown>): () => boolean {
    if (rule === this.property) return () => this.#isPropertyNext();
    if (rule === this.argument) return () => ARGUMENT_STARTS.has(this.#typeAt(1));
    return super.BACKTRACK(rule);
  }

  #isPropertyNext(): boolean {
    const closing = STRING_ENDS.get(this.#typeAt(1));
    if (closing === undefined) return false;
    let distance = 1;
    while (this.#typeAt(distance) !== closing) {
      if (this.#typeAt(distance) === 'EOF') return false;
      distance += 1;
    }
    let isContinued = false;
    for (distance += 1; SPACE_TOKENS.has(this.#typeAt(distance)); distance += 1) {
      const type = this.#typeAt(distance);
      if (type === 'NewLine' && !isContinued) return false;
      if (type === 'EscLine' || type === 'NewLine') isContinued = type === 'EscLine';
    }
    return this.#typeAt(distance) === 'Equals';
  }

  #typeAt(distance: number): string {
    return this.LA(distance).tokenType.name;
  }
}

/** The token that ends a string, by the one that starts it. */
const STRING_ENDS: ReadonlyMap<string, string> = new Map([
  ['Identifier', 'Identifier'],
  ['RawString', 'RawString'],
  ['MultiLineRawString', 'MultiLineRawString'],
  ['OpenQuote', 'CloseQuote'],
  ['MultiLineOpenQuote', 'MultiLineCloseQuote'],
]);

const ARGUMENT_STARTS: ReadonlySet<string> = new Set([
  ...STRING_ENDS.keys(),
  'LeftParenthesis',
  'Boolean',
  'Null',
  'FloatKeyword',
  'Float',
  'Integer',
]);

const SPACE_TOKENS: ReadonlySet<string> = new Set([
  'WhiteSpace',
  'NewLine',
  'EscLine',
  'LineComment',
  'OpenMultiLineComment',
  'MultiLineCommentContent',
  'CloseMultiLineComment',
]);

/** Puts `watcher` around a rule. */
function watch<T>(owner: LocatingParser, rule: Rule<T>, watcher: (run: () => T) => T): void {
  const core = rule.coreRule;
  rule.coreRule = (...args) => watcher(() => core.apply(owner, [...args]));
}

/** KDL allows `node{` and `node/-`, where kdljs wants a space: one of no width is put in. */
function spaceOutBraces(tokens: readonly Token[]): readonly Token[] {
  const isTight = (token: Token, index: number): boolean =>
    (token.tokenType.name === 'LeftBrace' || token.tokenType.name === 'BlockComment') &&
    index > 0 &&
    tokens[index - 1]?.tokenType.name !== 'WhiteSpace';
  if (!tokens.some(isTight)) return tokens;
  const [space] = lexer.tokenize(' ').tokens;
  if (space === undefined) return tokens;
  return tokens.flatMap((token, index) =>
    isTight(token, index)
      ? [{ ...space, startOffset: token.startOffset, endOffset: token.startOffset - 1 }, token]
      : [token],
  );
}

/** kdljs takes `#"""text"#` for a raw string that begins with two quotes; KDL 2 has it as a broken multi-line string. */
function isMisreadRawString(token: Token): boolean {
  return token.tokenType.name === 'RawString' && /^#+"""/.test(token.image);
}

function spanOf(token: Token): Span {
  return { start: token.startOffset, end: token.endOffset + 1 };
}

function shift(span: Span, offset: number): Span {
  return { start: span.start + offset, end: span.end + offset };
}
