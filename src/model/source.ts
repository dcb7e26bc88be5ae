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
  /** Without a byte order mark. */
  readonly text: string;
  /** Where bytes that are not UTF-8 were read as U+FFFD, for the parser to report; not there when all was well. */
  readonly invalidBytes?: readonly Span[];
}
