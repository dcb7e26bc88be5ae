/** Holds a value against a schema of an OpenAPI 3.0 document, as far as propolis-server's documents go. */

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly nullable?: boolean;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly format?: string;
  readonly pattern?: string;
}

export interface OpenApiDocument {
  readonly paths: Readonly<Record<string, unknown>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const KNOWN = new Set(
  '$ref type enum oneOf allOf anyOf nullable properties required additionalProperties items minItems maxItems minimum maximum format pattern description title default example'.split(
    ' ',
  ),
);

/** Everything in which the value differs from the schema of that name. */
export function differences(document: OpenApiDocument, name: string, value: unknown): readonly string[] {
  const { schemas } = document.components;
  const look = (schema: Schema, one: unknown, place: string): readonly string[] => {
    const unknown = Object.keys(schema).filter((key) => !KNOWN.has(key));
    if (unknown.length > 0) throw new Error(`this check does not know ${unknown.join(', ')}`);
    if (schema.$ref !== undefined) {
      const target = schema.$ref.replace('#/components/schemas/', '');
      // "A UUID or any string": every UUID is both, so taken literally it would be neither.
      if (target === 'SpecKey') return typeof one === 'string' ? [] : [`${place} is no key`];
      const found = schemas[target];
      return found === undefined ? [`${place} has the unknown type ${target}`] : look(found, one, place);
    }
    if (one === null) return schema.nullable === true ? [] : nullProblems(schema, place, look);
    return [
      ...(schema.allOf ?? []).flatMap((part) => look(part, one, place)),
      ...choiceProblems(schema, one, place, look),
      ...(schema.enum === undefined || schema.enum.includes(one) ? [] : [`${place} is none of ${schema.enum.join()}`]),
      ...typeProblems(schema, one, place, look),
    ];
  };
  return look({ $ref: `#/components/schemas/${name}` }, value, name);
}

type Look = (schema: Schema, value: unknown, place: string) => readonly string[];

function nullProblems(schema: Schema, place: string, look: Look): readonly string[] {
  const parts = schema.allOf ?? [];
  if (parts.length > 0) return parts.flatMap((part) => look(part, null, place));
  return schema.type === undefined && schema.oneOf === undefined ? [] : [`${place} is null`];
}

function choiceProblems(schema: Schema, value: unknown, place: string, look: Look): readonly string[] {
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices === undefined) return [];
  const results = choices.map((choice) => look(choice, value, place));
  const fitting = results.filter((problems) => problems.length === 0).length;
  if (schema.oneOf === undefined ? fitting > 0 : fitting === 1) return [];
  const closest = results.toSorted((a, b) => a.length - b.length)[0] ?? [];
  return [`${place} fits ${fitting} of ${choices.length} choices: ${closest.join('; ')}`];
}

function typeProblems(schema: Schema, value: unknown, place: string, look: Look): readonly string[] {
  switch (schema.type) {
    case 'object':
      return objectProblems(schema, value, place, look);
    case 'array': {
      if (!Array.isArray(value)) return [`${place} is no list`];
      const { items = {}, minItems = 0, maxItems = Number.POSITIVE_INFINITY } = schema;
      const fits = value.length >= minItems && value.length <= maxItems;
      return [
        ...(fits ? [] : [`${place} has ${value.length} items`]),
        ...value.flatMap((item, i) => look(items, item, `${place}[${i}]`)),
      ];
    }
    case 'string':
      if (typeof value !== 'string') return [`${place} is no string`];
      return schema.format === 'uuid' && !UUID.test(value) ? [`${place} is no UUID`] : [];
    case 'integer':
    case 'number': {
      const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = schema;
      const limit = /^uint(8|16|32)$/.exec(schema.format ?? '')?.[1];
      const most = Math.min(maximum, limit === undefined ? Number.POSITIVE_INFINITY : 2 ** Number(limit) - 1);
      const fits = typeof value === 'number' && value >= minimum && value <= most;
      return fits && (schema.type === 'number' || Number.isInteger(value)) ? [] : [`${place} is no such number`];
    }
    case 'boolean':
      return typeof value === 'boolean' ? [] : [`${place} is no boolean`];
    case undefined:
    default:
      return [];
  }
}

function objectProblems(schema: Schema, value: unknown, place: string, look: Look): readonly string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [`${place} is no object`];
  const { properties = {}, required = [], additionalProperties = true } = schema;
  const missing = required.filter((key) => !Object.hasOwn(value, key)).map((key) => `${place}.${key} is missing`);
  const wrong = Object.entries(value).flatMap(([key, one]) => {
    const known = properties[key];
    if (known !== undefined) return look(known, one, `${place}.${key}`);
    if (additionalProperties === false) return [`${place}.${key} is unknown`];
    return additionalProperties === true ? [] : look(additionalProperties, one, `${place}.${key}`);
  });
  return [...missing, ...wrong];
}
