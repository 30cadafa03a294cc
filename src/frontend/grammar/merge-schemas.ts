import { disjoint, isRecord, KINDS, kindsOf, ofTypes, resolveRef, type SchemaObject } from './schema-facts.ts';
import { inner, type Place, refuse } from './schema-place.ts';

/** Alternatives that one schema may come to. */
const MAX_ALTERNATIVES = 256;

/** Keywords that say nothing of what is valid. */
export const ANNOTATIONS: ReadonlySet<string> = new Set([
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly'],
]);

/** Both hold: of the values that two schemas give one keyword. null = nothing is valid; undefined = it cannot be said in one. */
type Both = (a: unknown, b: unknown) => unknown;

const numbers =
  (choose: (a: number, b: number) => number): Both =>
  (a, b) =>
    typeof a === 'number' && typeof b === 'number' ? choose(a, b) : undefined;
const larger = numbers(Math.max);
const smaller = numbers(Math.min);
const allOf: Both = (a, b) => ({ allOf: [a, b] });

const BOTH: Readonly<Record<string, Both>> = {
  minimum: larger,
  exclusiveMinimum: larger,
  minLength: larger,
  minItems: larger,
  maximum: smaller,
  exclusiveMaximum: smaller,
  maxLength: smaller,
  maxItems: smaller,
  multipleOf: numbers((a, b) => (Number.isInteger(a) && Number.isInteger(b) ? (a / divisor(a, b)) * b : Number.NaN)),
  required: (a, b) => (Array.isArray(a) && Array.isArray(b) ? [...new Set([...a, ...b])] : undefined),
  items: allOf,
  enum: (a, b) => {
    if (!Array.isArray(a) || !Array.isArray(b)) return undefined;
    const others = new Set(b.map((value) => JSON.stringify(value)));
    const common = a.filter((value) => others.has(JSON.stringify(value)));
    return common.length === 0 ? null : common;
  },
};

const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));

/** The schema that was sent, and what counts the work that it makes: so many schemas or properties at a place. Throws `GrammarError` where that is too much. */
export interface Merging {
  readonly document: unknown;
  spend(place: Place, amount: number): void;
}

/**
 * Schemas without references and combinations at their top, one of which holds where that of the place does, and only there: `allOf`, `anyOf`, `oneOf`, `$ref` and
 * what stands beside them, multiplied out. Throws `GrammarError` where they cannot be merged exactly.
 */
export function alternatives(place: Place, merging: Merging): SchemaObject[] {
  const { schema, at, through } = place;
  const { document } = merging;
  merging.spend(place, 1);
  if (schema === true) return [{}];
  if (schema === false) return [];
  if (!isRecord(schema)) return refuse(at, 'is no schema: it must be an object');
  const { $ref, allOf: all = [], anyOf, oneOf, const: constant, ...rest } = schema;
  if (typeof rest.$id === 'string' && schema !== document)
    refuse(at, "has '$id', which changes what references mean; leave it out");
  const own = Object.fromEntries(Object.entries(rest).filter(([key]) => !ANNOTATIONS.has(key)));
  const factors: SchemaObject[][] = [[own]];
  if (constant !== undefined) factors.push([{ enum: [constant] }]);
  if ($ref !== undefined) factors.push(alternatives(target(document, place, $ref), merging));
  for (const [i, each] of listed(all, 'allOf', at).entries())
    factors.push(alternatives(inner(place, each, `/allOf/${i}`, through), merging));
  for (const [key, list] of Object.entries({ anyOf, oneOf })) {
    if (list === undefined) continue;
    const choices = listed(list, key, at);
    if (key === 'oneOf') requireApart(document, choices, at);
    factors.push(choices.flatMap((each, i) => alternatives(inner(place, each, `/${key}/${i}`, through), merging)));
  }
  return factors.reduce<SchemaObject[]>(
    (before, factor) => {
      if (before.length * factor.length > MAX_ALTERNATIVES)
        refuse(at, `has more than ${MAX_ALTERNATIVES} alternatives once multiplied out`);
      return before.flatMap((a) => factor.map((b) => merged(a, b, place, merging)).filter((each) => each !== null));
    },
    [{}],
  );
}

/** What a reference at the place leads to. Throws `GrammarError` where it leads nowhere, out of the schema, or in a circle. */
export function target(document: unknown, { at, depth, through }: Place, ref: unknown): Place {
  if (typeof ref !== 'string' || !ref.startsWith('#'))
    return refuse(at, "has a '$ref' that leaves the schema; only '#...' can be followed");
  if (through.has(ref)) return refuse(at, `comes back to ${ref} with nothing in between`);
  const schema = resolveRef(document, ref);
  if (schema === undefined) return refuse(at, `refers to ${ref.slice(0, 200)}, which is not there`);
  return { schema, at: ref, depth: depth + 1, through: new Set([...through, ref]) };
}

/** Throws `GrammarError` unless at most one of the schemas of a `oneOf` can hold. */
export function requireApart(document: unknown, schemas: readonly unknown[], at: string): void {
  for (const [i, a] of schemas.entries()) {
    const other = schemas.findIndex((b, j) => j > i && !disjoint(document, a, b));
    if (other >= 0)
      refuse(
        at,
        `has 'oneOf' whose schemas ${i} and ${other} may hold at once; use 'anyOf', or give each a required property with another 'const'`,
      );
  }
}

function listed(list: unknown, key: string, at: string): readonly unknown[] {
  if (Array.isArray(list) && (list.length > 0 || key === 'allOf')) return list;
  return refuse(at, `has a '${key}' that is no list of schemas`);
}

/** null where no value is valid for both. */
function merged(a: SchemaObject, b: SchemaObject, place: Place, merging: Merging): SchemaObject | null {
  const { at } = place;
  if (Object.keys(a).length === 0) return b;
  if (Object.keys(b).length === 0) return a;
  const result: Record<string, unknown> = { ...a, ...b, ...mergedObjects(a, b, place, merging) };
  for (const key of Object.keys(a)) {
    if (!(key in b) || key === 'properties' || key === 'additionalProperties') continue;
    if (key === 'enum' && a.enum !== b.enum) merging.spend(place, JSON.stringify([a.enum, b.enum]).length / 64);
    const value = key === 'type' ? types(a.type, b.type, at) : bothOf(key, a[key], b[key], at);
    if (value === null) return null;
    result[key] = value;
  }
  if (Array.isArray(result.enum)) {
    const fitting = ofTypes(result.enum, result.type, at);
    if (fitting.length === 0) return null;
    result.enum = fitting;
  }
  if ('prefixItems' in result && ('items' in a || 'prefixItems' in a) && ('items' in b || 'prefixItems' in b))
    refuse(at, "says 'prefixItems' and 'items' in several schemas that must all hold; say them in one");
  return result;
}

function bothOf(key: string, a: unknown, b: unknown, at: string): unknown {
  if (a === b) return a;
  const value = BOTH[key]?.(a, b);
  if (value === undefined || Number.isNaN(value))
    refuse(at, `says '${key.slice(0, 80)}' twice among schemas that must all hold; say it once`);
  return value;
}

/** The types that both allow; null = none. An integer is a number. */
function types(a: unknown, b: unknown, at: string): unknown {
  const [mine, theirs] = [kindsOf(a, at), kindsOf(b, at)];
  const has = (kinds: readonly string[], kind: string) =>
    kinds.includes(kind) || (kind === 'integer' && kinds.includes('number'));
  const common = KINDS.filter((kind) => has(mine, kind) && has(theirs, kind));
  const all = common.includes('number') ? common.filter((kind) => kind !== 'integer') : common;
  return all.length === 0 ? null : all;
}

/** `properties` and `additionalProperties` of both: what one names is to the other one of the others. */
function mergedObjects(a: SchemaObject, b: SchemaObject, place: Place, merging: Merging): SchemaObject {
  const { at } = place;
  const says = (schema: SchemaObject) =>
    ['properties', 'additionalProperties', 'patternProperties'].some((key) => schema[key] !== undefined);
  if (!says(a) || !says(b)) return {};
  if (a.patternProperties !== undefined || b.patternProperties !== undefined)
    refuse(at, "has 'patternProperties' beside what other schemas that must hold say of properties; say all in one");
  const [mine, theirs] = [propertiesOf(a, at), propertiesOf(b, at)];
  const properties: Record<string, unknown> = {};
  const names = new Set([...Object.keys(mine), ...Object.keys(theirs)]);
  merging.spend(place, names.size);
  for (const name of names) {
    const of = (own: SchemaObject, { additionalProperties: others = true }: SchemaObject) =>
      Object.hasOwn(own, name) ? own[name] : others;
    const value = holds(of(mine, a), of(theirs, b));
    // What one of them forbids nobody writes, unless it is required, which is refused where it is translated.
    if (value !== false) properties[name] = value;
  }
  const others = [a.additionalProperties, b.additionalProperties].filter((each) => each !== undefined);
  return {
    ...(Object.keys(properties).length > 0 || 'properties' in a || 'properties' in b ? { properties } : {}),
    ...(others.length > 0 ? { additionalProperties: others.reduce<unknown>(holds, true) } : {}),
  };
}

function holds(a: unknown, b: unknown): unknown {
  if (a === false || b === false) return false;
  if (a === true) return b;
  return b === true || a === b ? a : { allOf: [a, b] };
}

function propertiesOf({ properties = {} }: SchemaObject, at: string): SchemaObject {
  return isRecord(properties) ? properties : refuse(at, "has 'properties' that is no object");
}
