/** A KDL 2 document as a tree that knows where everything was written. */
import type { Located, Span } from '../model/source.js';

export interface KdlNode {
  readonly name: Located<string>;
  /** A type annotation, `(type)node`; KDL lets readers ignore it. Its span has the parentheses. */
  readonly type: Located<string> | null;
  /** Arguments and properties as they follow one another. */
  readonly entries: readonly KdlEntry[];
  /** The children block with its braces; null where there is none. */
  readonly block: Span | null;
  readonly children: readonly KdlNode[];
  /** From the first to the last character. */
  readonly span: Span;
  /** The span without the children block. */
  readonly head: Span;
  /** Which parts had syntax errors and may lack something that the author wrote. */
  readonly damage: { readonly head: boolean; readonly body: boolean };
}

export type KdlEntry = KdlArgument | KdlProperty;

interface KdlArgument {
  readonly kind: 'argument';
  readonly value: KdlValue;
}

export interface KdlProperty {
  readonly kind: 'property';
  readonly name: Located<string>;
  readonly value: KdlValue;
}

export interface KdlValue extends Located<string | number | boolean | null> {
  readonly type: Located<string> | null;
  /** As it was written: `0x10`, `"a\tb"`. */
  readonly text: string;
}
