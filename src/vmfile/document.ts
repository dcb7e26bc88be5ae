/** A whole VMFile as located KDL, with everything that is wrong with its syntax. */
import type { Span } from '../model/source.js';
import type { Finding, Findings } from './diagnostic.js';
import { parseKdl } from './kdl.js';
import type { KdlNode } from './kdl-tree.js';
import { outline, type Statement } from './outline.js';
import { explainStatement, nameOf } from './syntax.js';

export interface KdlDocument {
  readonly nodes: readonly KdlNode[];
  /** True when something may be missing from `nodes` because it could not be read. */
  readonly damaged: boolean;
}

/**
 * Reads the text of a VMFile. Where it is not KDL 2, every mistake is reported and the nodes that can still be read are
 * returned, marked where they are incomplete.
 */
export function readDocument(text: string, findings: Findings): KdlDocument {
  reportOldVersion(text, findings);
  const result = parseKdl(text);
  if (result.ok) return { nodes: result.nodes, damaged: false };
  return new Recovery(text, findings).run(result);
}

/** `/- kdl-version 1` at the top is KDL's own way of saying so (KDL 2 specification, "Version marker"). */
function reportOldVersion(text: string, findings: Findings): void {
  const marker = /^\uFEFF?\s*\/-\s*kdl-version\s+([^\s;]+)/d.exec(text);
  const [start, end] = marker?.indices?.[1] ?? [];
  if (marker?.[1] === '2' || start === undefined || end === undefined) return;
  findings.error({
    code: 'syntax',
    message: `this file says that it is KDL ${text.slice(start, end)}; a VMFile is KDL 2`,
    span: { start, end },
    hint: 'write `/- kdl-version 2`, #true for true, and #"…"# for raw strings',
  });
}

interface Refusal {
  readonly span: Span;
  readonly message: string;
}

class Recovery {
  readonly #text: string;
  readonly #findings: Findings;
  readonly #structural: readonly Finding[];
  readonly #statements: readonly Statement[];
  #reported = 0;

  constructor(text: string, findings: Findings) {
    this.#text = text;
    this.#findings = findings;
    const { statements, findings: structural } = outline(text);
    this.#statements = statements;
    this.#structural = structural;
  }

  run(refusal: Refusal): KdlDocument {
    for (const finding of this.#structural) this.#report(finding);
    const { nodes } = this.#read(this.#statements);
    // Whatever kdljs refuses is an error, even if nothing here knows why.
    if (this.#reported === 0) this.#report(this.#unexplained(refusal));
    return { nodes, damaged: true };
  }

  #read(statements: readonly Statement[]): { readonly nodes: readonly KdlNode[]; readonly lost: boolean } {
    const nodes: KdlNode[] = [];
    let lost = false;
    for (const statement of statements) {
      const node = this.#readStatement(statement);
      if (node === null) lost ||= statement.pieces[0]?.kind !== 'slashdash';
      else nodes.push(node);
    }
    return { nodes, lost };
  }

  /** Null for what is commented out and for what has no name. */
  #readStatement(statement: Statement): KdlNode | null {
    const { span, block } = statement;
    const whole = block?.closed === true ? parseKdl(this.#text.slice(span.start, span.end), span.start) : null;
    if (whole?.ok === true) return whole.nodes[0] ?? null;
    const result = parseKdl(this.#withoutBlock(statement), span.start);
    if (result.ok) {
      const [node] = result.nodes;
      if (node === undefined || block === null) return node ?? null;
      const { nodes, lost } = this.#read(block.statements);
      return {
        ...node,
        span,
        block: block.span,
        children: nodes,
        damage: { head: false, body: lost || !block.closed },
      };
    }
    const explained = explainStatement(this.#text, statement);
    for (const finding of explained) this.#report(finding);
    if (explained.length === 0 && !this.#hasStructural(statement)) this.#report(this.#unexplained(result));
    if (statement.pieces[0]?.kind === 'slashdash') return null;
    const name = nameOf(this.#text, statement);
    const inner = this.#read(block?.statements ?? []);
    if (name === null) return null;
    return {
      name,
      type: null,
      entries: [],
      block: block?.span ?? null,
      children: inner.nodes,
      span,
      head: { start: span.start, end: headEnd(statement) },
      damage: { head: true, body: inner.lost || block?.closed === false },
    };
  }

  /** The text of a statement, of the same length as far as its block, which is emptied. */
  #withoutBlock({ span, block }: Statement): string {
    if (block === null) return this.#text.slice(span.start, span.end);
    const inside = Math.max(0, block.span.end - block.span.start - 2);
    const head = this.#text.slice(span.start, block.span.start);
    return `${head}{${' '.repeat(inside)}}${this.#text.slice(block.span.end, span.end)}`;
  }

  #hasStructural({ span, block }: Statement): boolean {
    return this.#structural.some(
      ({ span: { start } }) =>
        start >= span.start &&
        start < span.end &&
        (block === null || start < block.span.start || start >= block.span.end),
    );
  }

  #unexplained({ span }: Refusal): Finding {
    const start = Math.min(span.start, this.#text.length);
    const end = Math.min(Math.max(span.end, start), this.#text.length);
    const found = this.#text.slice(start, end).trim();
    const message = found === '' ? 'something is missing here' : `\`${found.slice(0, 40)}\` cannot stand here`;
    return { code: 'syntax', message, span: { start, end } };
  }

  #report(finding: Finding): void {
    this.#reported += 1;
    this.#findings.error(finding);
  }
}

function headEnd({ pieces, block, span }: Statement): number {
  if (block === null) return span.end;
  return pieces.findLast((piece) => piece.end <= block.span.start)?.end ?? block.span.start;
}
