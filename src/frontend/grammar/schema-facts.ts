import { GrammarError } from './ebnf.ts';

export const KINDS = ['string', 'number', 'integer', 'boolean', 'null', 'object', 'array'] as const;
export type Kind = (typeof KINDS)[number];
export type SchemaObject = Readonly<Record<string, unknown>>;

/** References and unions that are followed to learn what a schema is about. */
const MAX_STEPS = 64;

export function isRecord(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The types that a `type` names. Throws `GrammarError`. */
export function kindsOf(type: unknown, at: string): Kind[] {
  const list = Array.isArray(type) ? type : [type];
  const strange = list.find((each) => !(KINDS as readonly unknown[]).includes(each));
  if (strange !== undefined || list.length === 0)
    throw new GrammarError(
      `the schema at ${at} has the type ${JSON.stringify(strange ?? type)?.slice(0, 80)}; there are ${KINDS.join(', ')}`,
    );
  return [...new Set(list as Kind[])];
}

/** Those of `values` that are of one of the types; an integer is a number. */
export function ofTypes(values: readonly unknown[], type: unknown, at: string): readonly unknown[] {
  if (type === undefined) return values;
  const kinds = kindsOf(type, at);
  return values.filter((value) => {
    const kind = kindOf(value);
    return kinds.includes(kind) || (kind === 'integer' && kinds.includes('number'));
  });
}

function kindOf(value: unknown): Kind {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value as 'string' | 'boolean' | 'object';
}

/** What a reference within the document leads to (RFC 6901 after the '#'); undefined where there is nothing. */
export function resolveRef(document: unknown, ref: string): unknown {
  if (ref === '#') return document;
  if (!ref.startsWith('#/')) return undefined;
  let value = document;
  for (const part of ref.slice(2).split('/')) {
    let key: string;
    try {
      key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
    } catch {
      return undefined;
    }
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

/** Whether no value is valid for both schemas, as far as their types, values and discriminating properties show it. */
export function disjoint(document: unknown, a: unknown, b: unknown): boolean {
  const [left, right] = [followed(document, a), followed(document, b)];
  if (left === null || right === null) return false;
  const [kindsA, kindsB] = [kinds(left), kinds(right)];
  if (kindsA && kindsB && !kindsA.some((kind) => kindsB.includes(kind))) return true;
  if (apart(values(left), values(right))) return true;
  const names = Object.keys(isRecord(left.properties) ? left.properties : {});
  return names.some((name) => {
    if (!requires(left, name) || !requires(right, name)) return false;
    const own = (schema: SchemaObject) => followed(document, (schema.properties as SchemaObject)[name]);
    const [mine, theirs] = [own(left), own(right)];
    return mine !== null && theirs !== null && apart(values(mine), values(theirs));
  });
}

/** The schema that references lead to; null where they lead nowhere. */
function followed(document: unknown, schema: unknown): SchemaObject | null {
  let found = schema;
  for (let i = 0; i < MAX_STEPS && isRecord(found); i++) {
    if (typeof found.$ref !== 'string') return found;
    found = resolveRef(document, found.$ref);
  }
  return null;
}

/** The types of its values, integers as numbers; null = any. */
function kinds(schema: SchemaObject): Kind[] | null {
  const all =
    values(schema)?.map((value) => kindOf(JSON.parse(value))) ??
    (schema.type === undefined ? null : kindsOf(schema.type, '#'));
  return all?.map((kind) => (kind === 'integer' ? 'number' : kind)) ?? null;
}

/** The values that it names, as JSON; null = any. */
function values(schema: SchemaObject): string[] | null {
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  return Array.isArray(schema.enum) ? schema.enum.map((value) => JSON.stringify(value)) : null;
}

function apart(a: readonly string[] | null, b: readonly string[] | null): boolean {
  return a !== null && b !== null && !a.some((value) => b.includes(value));
}

/** Whether it is an object's schema that names and requires the property. */
function requires(schema: SchemaObject, name: string): boolean {
  const { type, properties, required } = schema;
  return (
    type === 'object' &&
    isRecord(properties) &&
    Object.hasOwn(properties, name) &&
    Array.isArray(required) &&
    required.includes(name)
  );
}
