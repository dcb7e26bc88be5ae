/**
 * The frame in which every node is read: a shape says which arguments, properties and children a node has, and
 * whatever does not fit is reported, each with its exact place. The fields of a shape collect what was found.
 */
import type { Located, Span } from '../model/source.js';
import type { Findings } from './diagnostic.js';
import type { KdlNode, KdlProperty, KdlValue } from './kdl-tree.js';
import { didYouMean, suggest } from './suggest.js';
import { describeValue, listOf, type ValueReader } from './values.js';

/** Takes a child node. */
export interface NodeField {
  node(node: KdlNode, findings: Findings): void;
  /** Told when its name was probably meant by a misspelt one: then it is not missing. */
  excuse?(): void;
}

/** Takes a property. */
export interface PropertyField {
  property(property: KdlProperty, findings: Findings): void;
}

export interface Shape {
  /** How messages name the node: `` `network "tap"` ``. */
  readonly title: string;
  /** In their order; all are required. */
  readonly arguments?: readonly Setting<unknown>[];
  /** Takes every argument, of which there must be at least one. */
  readonly rest?: { readonly name: string; take(value: KdlValue): void };
  readonly properties?: Readonly<Record<string, PropertyField>>;
  /** Takes every property. */
  readonly anyProperty?: PropertyField;
  readonly children?: Readonly<Record<string, NodeField>>;
  /** Children that belong to a sibling of this kind, with the words for where. */
  readonly elsewhere?: Readonly<Record<string, string>>;
  /** A correct example, for hints. */
  readonly example?: string;
}

/** Reads a node; undefined when something in it is wrong, which is then reported. */
export type NodeReader<T> = (node: KdlNode, findings: Findings) => T | undefined;

/** What a field found: nothing, something wrong (which is reported), or a value. */
class Slot<T> {
  #first: Span | null = null;
  #value: Located<T> | null = null;
  #excused = false;
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** True when the author wrote it, right or wrong: then it is not missing. */
  get seen(): boolean {
    return this.#first !== null || this.#excused;
  }

  excuse(): void {
    this.#excused = true;
  }

  /** Where it was first written. */
  get place(): Span | null {
    return this.#first;
  }

  get value(): Located<T> | undefined {
    return this.#value ?? undefined;
  }

  /** `as` of the value, to be spread into an object that must not have the key otherwise. */
  when<R extends object>(as: (value: Located<T>) => R): R | undefined {
    return this.#value === null ? undefined : as(this.#value);
  }

  /** Notes a place; the second one is an error that shows both. */
  protected claim(place: Span, findings: Findings): boolean {
    if (this.#first === null) {
      this.#first = place;
      return true;
    }
    findings.error({
      code: 'duplicate',
      message: `\`${this.name}\` is given twice`,
      span: place,
      labels: [{ span: this.#first, text: 'first given here' }],
      hint: 'keep one of them',
    });
    return false;
  }

  protected store(value: T, span: Span): void {
    this.#value = { value, span };
  }
}

/** One value: an argument, a property, or a child node of exactly one argument. */
export class Setting<T> extends Slot<T> implements NodeField, PropertyField {
  readonly reader: ValueReader<T>;

  constructor(name: string, reader: ValueReader<T>) {
    super(name);
    this.reader = reader;
  }

  node(node: KdlNode, findings: Findings): void {
    if (!this.claim(node.name.span, findings)) return;
    const argument = new Setting(this.name, this.reader);
    readShape(node, { title: `\`${this.name}\``, arguments: [argument] }, findings);
    if (argument.value !== undefined) this.store(argument.value.value, argument.value.span);
  }

  property(property: KdlProperty, findings: Findings): void {
    if (this.claim(property.name.span, findings)) this.#read(property.value, `\`${this.name}\``, findings);
  }

  argument(value: KdlValue, title: string, findings: Findings): void {
    if (this.claim(value.span, findings)) this.#read(value, title, findings);
  }

  #read(value: KdlValue, owner: string, findings: Findings): void {
    const read = readValue(value, { owner, reader: this.reader }, findings);
    if (read !== undefined) this.store(read, value.span);
  }
}

/** A child node that may stand once. */
export class Child<T> extends Slot<T> implements NodeField {
  readonly #read: NodeReader<T>;

  constructor(name: string, read: NodeReader<T>) {
    super(name);
    this.#read = read;
  }

  node(node: KdlNode, findings: Findings): void {
    if (!this.claim(node.name.span, findings)) return;
    const value = this.#read(node, findings);
    if (value !== undefined) this.store(value, node.head);
  }
}

/** A child node that may stand any number of times. */
export class Children<T> implements NodeField {
  readonly values: Located<T>[] = [];
  /** Where they were written, right or wrong. */
  readonly places: Span[] = [];
  readonly #read: NodeReader<T>;

  constructor(read: NodeReader<T>) {
    this.#read = read;
  }

  node(node: KdlNode, findings: Findings): void {
    this.places.push(node.head);
    const value = this.#read(node, findings);
    if (value !== undefined) this.values.push({ value, span: node.head });
  }
}

/** Reads a value, or says what was expected and what was found. */
export function readValue<T>(
  value: KdlValue,
  { owner, reader }: { readonly owner: string; readonly reader: ValueReader<T> },
  findings: Findings,
): T | undefined {
  const reading = reader.read(value);
  if (reading.ok) return reading.value;
  findings.error({
    code: reading.code,
    message: reading.problem ?? `${owner} takes ${reader.expected}, not ${describeValue(value)}`,
    span: value.span,
    hint: reading.hint,
  });
  return undefined;
}

/** Reads a node into the fields of its shape and reports everything that does not fit. */
export function readShape(node: KdlNode, shape: Shape, findings: Findings): void {
  if (!node.damage.head) {
    readArguments(node, shape, findings);
    readProperties(node, shape, findings);
  }
  readChildren(node, shape, findings);
}

function readArguments(node: KdlNode, shape: Shape, findings: Findings): void {
  const values = node.entries.flatMap((entry) => (entry.kind === 'argument' ? [entry.value] : []));
  if (shape.rest !== undefined) {
    for (const value of values) shape.rest.take(value);
    if (values.length === 0) reportMissingArgument(node, shape, shape.rest.name, findings);
    return;
  }
  const expected = shape.arguments ?? [];
  for (const [index, setting] of expected.entries()) {
    const value = values[index];
    const owner = expected.length === 1 ? shape.title : `the ${setting.name} of ${shape.title}`;
    if (value !== undefined) setting.argument(value, owner, findings);
    else if (index === values.length) reportMissingArgument(node, shape, setting.reader.expected, findings);
  }
  const [extra, ...more] = values.slice(expected.length);
  if (extra === undefined) return;
  const count = ['no value', 'one value', 'two values'][expected.length] ?? `${expected.length} values`;
  findings.error({
    code: 'unexpected',
    message: `${shape.title} takes ${count}, but ${values.length} ${values.length === 1 ? 'is' : 'are'} given`,
    span: { start: extra.span.start, end: (more.at(-1) ?? extra).span.end },
    hint: shape.example === undefined ? undefined : `for example: ${shape.example}`,
  });
}

function reportMissingArgument(node: KdlNode, shape: Shape, expected: string, findings: Findings): void {
  // A property that the node does not have is the value, written the wrong way; that is said where it stands.
  const astray = node.entries.some((entry) => entry.kind === 'property' && !isKnown(shape, entry.name.value));
  if (astray) return;
  findings.error({
    code: 'missing',
    message: `${shape.title} needs ${expected}`,
    span: node.head,
    hint: shape.example === undefined ? undefined : `for example: ${shape.example}`,
  });
}

function isKnown(shape: Shape, property: string): boolean {
  return shape.anyProperty !== undefined || lookUp(shape.properties, property) !== undefined;
}

function readProperties(node: KdlNode, shape: Shape, findings: Findings): void {
  for (const property of node.entries) {
    if (property.kind === 'argument') continue;
    const name = property.name.value;
    const field = shape.anyProperty ?? lookUp(shape.properties, name);
    if (field === undefined) reportUnknownProperty(property, { node, shape }, findings);
    else field.property(property, findings);
  }
}

interface Owner {
  readonly node: KdlNode;
  readonly shape: Shape;
}

function reportUnknownProperty(property: KdlProperty, owner: Owner, findings: Findings): void {
  const name = property.name.value;
  const span = { start: property.name.span.start, end: property.value.span.end };
  const message = `${owner.shape.title} has no property \`${name}\``;
  findings.error({ code: 'unknown-property', message, span, hint: propertyHint(property, owner) });
}

function propertyHint({ name: { value: name }, value }: KdlProperty, { node, shape }: Owner): string | undefined {
  const children = Object.keys(shape.children ?? {});
  const near = didYouMean(name, Object.keys(shape.properties ?? {}));
  const child = suggest(name, children);
  if (!children.includes(name) && near !== undefined) return near;
  if (child !== null) return `\`${child}\` stands inside the braces: { ${child} ${value.text} }`;
  const elsewhere = lookUp(shape.elsewhere, name);
  if (elsewhere !== undefined) return elsewhere;
  const isBare = shape.arguments?.length === 1 && node.entries.every((entry) => entry.kind === 'property');
  return isBare ? `the value stands alone: ${node.name.value} ${value.text}` : undefined;
}

function readChildren(node: KdlNode, shape: Shape, findings: Findings): void {
  if (shape.children === undefined) {
    if (node.block === null || node.damage.body) return;
    const hint = shape.example === undefined ? undefined : `for example: ${shape.example}`;
    const [first] = node.children;
    const span = first === undefined ? node.block : first.head;
    findings.error({ code: 'unexpected', message: `${shape.title} takes no \`{ … }\``, span, hint });
    return;
  }
  for (const child of node.children) {
    const name = child.name.value;
    const field = lookUp(shape.children, name);
    if (field === undefined) reportUnknownNode(child, { shape, children: shape.children }, findings);
    else field.node(child, findings);
  }
}

function reportUnknownNode(
  child: KdlNode,
  { shape, children }: { readonly shape: Shape; readonly children: Readonly<Record<string, NodeField>> },
  findings: Findings,
): void {
  const name = child.name.value;
  const known = Object.keys(children);
  const elsewhere = lookUp(shape.elsewhere, name);
  const near = suggest(name, known);
  if (near !== null) lookUp(children, near)?.excuse?.();
  findings.error({
    code: 'unknown-node',
    message: `${shape.title} has no node \`${name}\``,
    span: child.name.span,
    hint:
      elsewhere ??
      (near === null ? undefined : `did you mean \`${near}\`?`) ??
      (known.length === 0
        ? 'it has none'
        : `it can have ${listOf(
            known.map((word) => `\`${word}\``),
            'and',
          )}`),
  });
}

/** An author may call a node `constructor`, which every object has. */
function lookUp<T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined;
}
