/** The part of kdljs that `kdl.ts` builds on; its own types cover only the plain `parse`. */
declare module 'kdljs/src/parser/kdl.js' {
  export interface Token {
    readonly image: string;
    /** NaN for the end of the text. */
    readonly startOffset: number;
    /** Inclusive. NaN for the end of the text. */
    readonly endOffset: number;
    readonly tokenType: { readonly name: string };
  }

  export type Value = string | number | boolean | null;

  export interface ParsedNode {
    readonly name: string;
    readonly children: readonly ParsedNode[];
  }

  /** A grammar rule of Chevrotain. `coreRule` is what other rules call. */
  export interface Rule<T> {
    (): T;
    coreRule: (...args: readonly unknown[]) => T;
  }

  export interface RecognitionError {
    readonly message: string;
    /** Not there for some multi-line strings whose lines have no indentation. */
    readonly token?: Token;
    readonly previousToken?: Token;
  }

  export class KdlParser {
    input: readonly Token[];
    readonly errors: readonly RecognitionError[];
    readonly document: Rule<readonly ParsedNode[]>;
    readonly node: Rule<ParsedNode>;
    readonly nodeChildren: Rule<readonly ParsedNode[]>;
    readonly property: Rule<readonly [string, Value, string | undefined]>;
    readonly argument: Rule<readonly [Value, string | undefined]>;
    readonly tag: Rule<string>;
    readonly value: Rule<Value>;
    readonly string: Rule<string>;
    readonly unicodeEscape: Rule<string>;
    /** The token `distance` after the last one consumed: 0 is that one, 1 the next. */
    protected LA(distance: number): Token;
    /** Makes a predicate: would this rule match what comes next? */
    protected BACKTRACK(rule: Rule<unknown>): () => boolean;
  }

  export const lexer: {
    tokenize(text: string): {
      readonly tokens: readonly Token[];
      readonly errors: readonly { readonly offset: number; readonly length: number; readonly message: string }[];
    };
  };
}
