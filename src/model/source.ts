/** Where in a VMFile a thing was said. */

/** A half-open range of UTF-16 code units in the text of the VMFile. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A value and where it was written. */
export interface Located<T> {
  readonly value: T;
  readonly span: Span;
}

/** A VMFile as it was read. */
export interface SourceFile {
  /** Absolute path. */
  readonly path: string;
  readonly text: string;
}
