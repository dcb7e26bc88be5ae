/**
 * VMs that a program declares, as the nodes of a VMFile: they are read by the same readers, so they have the same rules
 * and the same messages. What the nodes point at is a sheet with one line for each value, `vms.web.memory: "4X"`, so a
 * diagnostic shows the place in the program's own terms.
 */
import { join } from 'node:path';
import type { SourceFile, Span } from '../model/source.js';
import type { VmDeclaration } from './declaration.js';
import type { KdlEntry, KdlNode, KdlProperty, KdlValue } from './kdl-tree.js';

export interface DeclaredDocument {
  readonly source: SourceFile;
  readonly nodes: readonly KdlNode[];
}

/** `cwd` is where relative paths begin. */
export function documentOf(vms: Readonly<Record<string, VmDeclaration>>, cwd: string): DeclaredDocument {
  const sheet = new Sheet();
  const nodes = Object.entries(vms).map(([name, vm]) => vmNode(sheet, name, vm));
  // No file can be in this folder under such a name by accident, and none is read.
  return { source: { path: join(cwd, '(vms in code)'), text: sheet.text }, nodes };
}

/** Where a value is in the program: the names that lead to it, the last one apart. */
interface Place {
  readonly parent: string;
  readonly key: string;
}

function inside(place: Place, key: string | number): Place {
  return { parent: `${place.parent}${accessor(place)}`, key: String(key) };
}

function accessor({ parent, key }: Place): string {
  if (parent === '') return key;
  if (/^\d+$/.test(key)) return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}

/** One line of the sheet: where its parts are. */
interface Line {
  /** The last name, without the dot before it. */
  readonly key: Span;
  readonly values: readonly KdlValue[];
  readonly whole: Span;
}

class Sheet {
  text = '';

  add(place: Place, values: readonly unknown[]): Line {
    const start = this.text.length;
    const last = accessor(place);
    this.text += `${place.parent}${last}`;
    const key = { start: this.text.length - last.replace(/^\./, '').length, end: this.text.length };
    const read = values.map((value, i): KdlValue => {
      this.text += i === 0 ? ': ' : ', ';
      const from = this.text.length;
      const scalar = toScalar(value);
      this.text += scalar.text;
      return { ...scalar, span: { start: from, end: this.text.length }, type: null };
    });
    const whole = { start, end: this.text.length };
    this.text += '\n';
    return { key, values: read, whole };
  }

  /** The end of what was written last. */
  get end(): number {
    return this.text.length - 1;
  }
}

function toScalar(value: unknown): { readonly value: string | number | boolean | null; readonly text: string } {
  switch (typeof value) {
    case 'string':
      return { value, text: JSON.stringify(value) };
    case 'number':
      return { value, text: String(value) };
    case 'boolean':
      return { value, text: `#${value}` };
    case 'bigint':
      return { value: Number(value), text: String(value) };
    case 'object':
    case 'undefined':
    case 'function':
    case 'symbol':
      // Nothing takes null, and what it takes instead is what is then said.
      return { value: null, text: value === null ? '#null' : Object.prototype.toString.call(value) };
  }
}

interface Parts {
  readonly name: string;
  readonly values: readonly unknown[];
  readonly properties?: Readonly<Record<string, unknown>>;
  /** Makes the children, which stand on the lines below. */
  readonly children?: (place: Place) => readonly KdlNode[];
}

function node(sheet: Sheet, place: Place, parts: Parts): KdlNode {
  const line = sheet.add(place, parts.values);
  const properties = Object.entries(parts.properties ?? {}).flatMap(([name, value]): readonly KdlProperty[] => {
    if (value === undefined) return [];
    const own = sheet.add(inside(place, name), [value]);
    const [read] = own.values;
    return read === undefined ? [] : [{ kind: 'property', name: { value: name, span: own.key }, value: read }];
  });
  const children = parts.children?.(place) ?? [];
  const entries: KdlEntry[] = [...line.values.map((value) => ({ kind: 'argument' as const, value })), ...properties];
  const hasBlock = parts.children !== undefined;
  return {
    name: { value: parts.name, span: line.key },
    type: null,
    entries,
    block: hasBlock ? { start: line.whole.end, end: sheet.end } : null,
    children,
    span: { start: line.whole.start, end: sheet.end },
    head: line.whole,
    damage: { head: false, body: false },
  };
}

function vmNode(sheet: Sheet, name: string, vm: unknown): KdlNode {
  const place: Place = { parent: 'vms', key: name };
  const { count, ...declared } = isRecord(vm) ? vm : {};
  const fields = isRecord(vm) ? { cloudInit: true, ssh: true, ...withoutUndefined(declared) } : {};
  const children = (at: Place) =>
    Object.entries(fields).flatMap(([key, value]) => vmField(sheet, inside(at, key), value));
  const made = node(sheet, place, { name: 'vm', values: [], properties: { count }, children });
  const argument = { ...toScalar(name), span: made.name.span, type: null };
  return { ...made, entries: [{ kind: 'argument', value: argument }, ...made.entries] };
}

function vmField(sheet: Sheet, place: Place, value: unknown): readonly KdlNode[] {
  switch (place.key) {
    case 'cloudInit':
    case 'ssh':
      if (value === false) return [];
      return [value === true ? node(sheet, place, { name: kebab(place.key), values: [] }) : field(sheet, place, value)];
    case 'dependsOn':
      return [node(sheet, place, { name: 'depends-on', values: Array.isArray(value) ? value : [value] })];
    case 'network':
      return [networkNode(sheet, place, value)];
    case 'ready':
      return [
        isRecord(value)
          ? node(sheet, place, { name: 'ready', values: [], children: (at) => conditionNodes(sheet, at, value) })
          : field(sheet, place, value),
      ];
    case 'provision':
      if (!Array.isArray(value)) return [stepNode(sheet, place, value)];
      return value.map((step: unknown, i) => stepNode(sheet, inside(place, i), step));
    default:
      return [field(sheet, place, value)];
  }
}

/** A value becomes an argument, and an object the children. */
function field(sheet: Sheet, place: Place, value: unknown): KdlNode {
  const name = kebab(place.key);
  if (!isRecord(value)) return node(sheet, place, { name, values: Array.isArray(value) ? value : [value] });
  return node(sheet, place, { name, values: [], children: (at) => fieldsOf(sheet, at, value) });
}

function fieldsOf(sheet: Sheet, place: Place, value: Readonly<Record<string, unknown>>): readonly KdlNode[] {
  return Object.entries(withoutUndefined(value)).map(([key, one]) => field(sheet, inside(place, key), one));
}

function networkNode(sheet: Sheet, place: Place, value: unknown): KdlNode {
  if (!isRecord(value)) return field(sheet, place, value);
  const { kind, forwards, lan, ...rest } = value;
  const children = (at: Place) => [
    ...(Array.isArray(forwards) ? forwards : forwards === undefined ? [] : [forwards]).map((forward: unknown, i) =>
      forwardNode(sheet, inside(inside(at, 'forwards'), i), forward),
    ),
    ...(lan === undefined ? [] : [lanNode(sheet, inside(at, 'lan'), lan)]),
    ...fieldsOf(sheet, at, rest),
  ];
  return node(sheet, place, { name: 'network', values: kind === undefined ? [] : [kind], children });
}

function forwardNode(sheet: Sheet, place: Place, forward: unknown): KdlNode {
  if (!isRecord(forward)) return node(sheet, place, { name: 'forward', values: [0, forward] });
  const { guest, host = 0, ...rest } = forward;
  const values = guest === undefined ? [host] : [host, guest];
  return node(sheet, place, { name: 'forward', values, properties: rest });
}

/** A list is as many conditions of that kind. */
function conditionNodes(sheet: Sheet, place: Place, ready: Readonly<Record<string, unknown>>): readonly KdlNode[] {
  return Object.entries(withoutUndefined(ready)).flatMap(([key, value]) => {
    const at = inside(place, key);
    if (!Array.isArray(value)) return conditionNode(sheet, at, key, value);
    return value.flatMap((one: unknown, i) => conditionNode(sheet, inside(at, i), key, one));
  });
}

function conditionNode(sheet: Sheet, place: Place, kind: string, value: unknown): readonly KdlNode[] {
  const name = kebab(kind);
  if (kind === 'cloudInit' && typeof value === 'boolean')
    return value ? [node(sheet, place, { name, values: [] })] : [];
  if (kind === 'http' && isRecord(value)) {
    const { path = '/', ...properties } = value;
    return [node(sheet, place, { name, values: [path], properties })];
  }
  if (kind === 'log' && typeof value === 'string')
    return [node(sheet, place, { name, values: [literalPattern(value)] })];
  if (kind === 'log' && value instanceof RegExp) {
    const flags = value.flags.replaceAll(/[dgy]/g, '');
    return [node(sheet, place, { name, values: [value.source], properties: flags === '' ? {} : { flags } })];
  }
  return [node(sheet, place, { name, values: [value] })];
}

/** A regular expression that matches wherever this text stands. */
export function literalPattern(text: string): string {
  return text.replaceAll(/[$()*+.?[\\\]^{|}]/g, '\\$&');
}

function lanNode(sheet: Sheet, place: Place, lan: unknown): KdlNode {
  if (!isRecord(lan)) return node(sheet, place, { name: 'lan', values: [lan] });
  const { name, ...properties } = lan;
  return node(sheet, place, { name: 'lan', values: name === undefined ? [] : [name], properties });
}

/** What it has decides what kind of step it is. */
function stepNode(sheet: Sheet, place: Place, step: unknown): KdlNode {
  if (!isRecord(step)) return node(sheet, place, { name: 'provision', values: [step] });
  const isFile = 'source' in step || 'destination' in step;
  const children = (at: Place) =>
    Object.entries(withoutUndefined(step)).map(([key, value]) =>
      key === 'env' && isRecord(value)
        ? node(sheet, inside(at, key), { name: 'env', values: [], properties: value })
        : field(sheet, inside(at, key), value),
    );
  const made = node(sheet, place, { name: 'provision', values: [], children });
  const kind: KdlEntry = {
    kind: 'argument',
    value: { ...toScalar(isFile ? 'file' : 'shell'), span: made.head, type: null },
  };
  return { ...made, entries: [kind] };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function withoutUndefined(value: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined));
}

/** `imageUrl` is the node `image-url`. */
function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
