import { choice, GrammarError, type Node, optional, Rules, repeat, sequence, text } from './ebnf.ts';
import { formatOf } from './formats.ts';
import {
  anyArray,
  anyBoolean,
  anyNull,
  anyNumber,
  anyObject,
  anyString,
  anyValue,
  comma,
  listed,
  member,
  quoted,
  stringSet,
} from './json-text.ts';
import { decimals, integers } from './number-ranges.ts';
import { otherKeys } from './other-keys.ts';
import { type Regex, regexGrammar } from './regex.ts';
import { disjoint, isRecord, type Kind, kindsOf, resolveRef, type SchemaObject } from './schema-facts.ts';

/** Schemas in each other, and in all, that are looked at. */
const MAX_DEPTH = 64;
const MAX_SCHEMAS = 10_000;
const MAX_NAME = 256;

/** Keywords that say nothing of what is valid. */
const ANNOTATIONS = new Set([
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'title', 'description', 'default', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly'],
]);
/** Keywords that say something of one type only, and are understood. */
const KEYWORDS: Readonly<Record<string, Kind>> = {
  minLength: 'string',
  maxLength: 'string',
  pattern: 'string',
  format: 'string',
  minimum: 'number',
  maximum: 'number',
  exclusiveMinimum: 'number',
  exclusiveMaximum: 'number',
  properties: 'object',
  required: 'object',
  additionalProperties: 'object',
  items: 'array',
  prefixItems: 'array',
  minItems: 'array',
  maxItems: 'array',
};
const COMBINED = ['$ref', 'enum', 'const', 'anyOf', 'oneOf', 'allOf'] as const;

/** A schema within the one that was sent. */
interface Place {
  readonly schema: unknown;
  /** JSON pointer, for messages. */
  readonly at: string;
  readonly depth: number;
  /** References that led here with nothing of the text before them: to come back to one is to go in a circle. */
  readonly through: ReadonlySet<string>;
}

/**
 * A grammar all of whose sentences are JSON that the schema holds for: of drafts 2020-12 and 7, what `KEYWORDS` and `COMBINED` name; any
 * other keyword is refused by name, as is what cannot be expressed. It may allow less than the schema: properties come in the order of the
 * schema, none beside the named ones unless `additionalProperties` says so, patterns match whole strings, numbers keep to 15 digits.
 * Throws `GrammarError` that names the place.
 */
export function jsonSchemaGrammar(schema: unknown): string {
  const rules = new Rules();
  rules.reserve('root');
  rules.define('root', schemaNode(schema, rules));
  return rules.print();
}

/** The same as a part of a larger grammar. */
export function schemaNode(schema: unknown, rules: Rules): Node {
  return new SchemaGrammar(schema, rules).root();
}

/** Any JSON object. */
export function jsonObjectGrammar(): string {
  const rules = new Rules();
  rules.reserve('root');
  rules.define('root', anyObject(rules));
  return rules.print();
}

class SchemaGrammar {
  /** Rules of what `$ref`s lead to. */
  readonly #referred = new Map<string, Node>();
  #schemas = 0;

  constructor(
    private readonly document: unknown,
    private readonly rules: Rules,
  ) {}

  root(): Node {
    return this.#compile({ schema: this.document, at: '#', depth: 0, through: new Set() });
  }

  #compile(place: Place): Node {
    const { schema, at, depth } = place;
    if (++this.#schemas > MAX_SCHEMAS) refuse(at, `has more than ${MAX_SCHEMAS} schemas before it`);
    if (depth > MAX_DEPTH) refuse(at, `lies more than ${MAX_DEPTH} schemas deep`);
    if (schema === true) return anyValue(this.rules);
    if (schema === false) return refuse(at, 'is false: nothing is valid there');
    if (!isRecord(schema)) return refuse(at, 'is no schema: it must be an object');
    const keys = Object.keys(schema).filter((key) => !ANNOTATIONS.has(key));
    for (const key of keys) {
      if (key === 'type' || key in KEYWORDS || (COMBINED as readonly string[]).includes(key)) continue;
      if (MEANT_NOTHING[key]?.(schema[key])) continue;
      refuse(at, `has '${key.slice(0, 80)}', which is not supported; leave it out`);
    }
    if (typeof schema.$id === 'string' && depth > 0)
      refuse(at, "has '$id', which changes what references mean; leave it out");
    const combined = COMBINED.filter((key) => schema[key] !== undefined);
    const [way] = combined;
    if (way === undefined) return this.#ofKinds(place, schema, keys);
    const beside = keys.find(
      (key) => key !== way && !(key === 'type' && (way === 'enum' || way === 'const')) && !MEANT_NOTHING[key],
    );
    if (beside !== undefined) refuse(at, `has '${beside}' beside '${way}'; put the one inside the other`);
    return this.#combined(place, schema, way);
  }

  #combined(place: Place, schema: SchemaObject, way: (typeof COMBINED)[number]): Node {
    const { at } = place;
    if (way === '$ref') return this.#ref(place, schema.$ref);
    if (way === 'enum' || way === 'const') return this.#values(schema, at, way);
    const list = schema[way];
    if (!Array.isArray(list) || list.length === 0) return refuse(at, `has a '${way}' that is no list of schemas`);
    if (way === 'allOf' && list.length > 1) refuse(at, "has 'allOf' of several schemas; merge them into one");
    if (way === 'oneOf') {
      for (const [i, a] of list.entries()) {
        const other = list.findIndex((b, j) => j > i && !disjoint(this.document, a, b));
        if (other >= 0)
          refuse(
            at,
            `has 'oneOf' whose schemas ${i} and ${other} may hold at once; use 'anyOf', or give each a required property with another 'const'`,
          );
      }
    }
    return choice(...list.map((each, i) => this.#compile(inner(place, each, `/${way}/${i}`, place.through))));
  }

  #ref({ at, depth, through }: Place, ref: unknown): Node {
    if (typeof ref !== 'string' || !ref.startsWith('#'))
      return refuse(at, "has a '$ref' that leaves the schema; only '#...' can be followed");
    if (through.has(ref)) return refuse(at, `comes back to ${ref} with nothing in between`);
    const known = this.#referred.get(ref);
    if (known) return known;
    const target = resolveRef(this.document, ref);
    if (target === undefined) return refuse(at, `refers to ${ref.slice(0, 200)}, which is not there`);
    const name = this.rules.reserve(ref.split('/').at(-1) ?? 'ref');
    const node: Node = { kind: 'rule', name };
    this.#referred.set(ref, node);
    this.rules.define(
      name,
      this.#compile({ schema: target, at: ref, depth: depth + 1, through: new Set([...through, ref]) }),
    );
    return node;
  }

  #values(schema: SchemaObject, at: string, way: 'enum' | 'const'): Node {
    const all = way === 'const' ? [schema.const] : schema.enum;
    if (!Array.isArray(all)) return refuse(at, "has an 'enum' that is no list");
    const kinds = schema.type === undefined ? null : kindsOf(schema.type, at);
    const fitting = kinds
      ? all.filter((value) =>
          kindsOf(undefined, at, value).some(
            (kind) => kinds.includes(kind) || (kind === 'integer' && kinds.includes('number')),
          ),
        )
      : all;
    if (fitting.length === 0) return refuse(at, `has an '${way}' none of whose values is of its 'type'`);
    return choice(...fitting.map((value) => text(JSON.stringify(value))));
  }

  #ofKinds(place: Place, schema: SchemaObject, keys: readonly string[]): Node {
    const { at } = place;
    const about = [...new Set(keys.flatMap((key) => KEYWORDS[key] ?? []))];
    if (schema.type === undefined && about.length === 0) return anyValue(this.rules);
    const kinds = schema.type === undefined ? about : kindsOf(schema.type, at);
    const whole = kinds.includes('number') ? kinds.filter((kind) => kind !== 'integer') : kinds;
    return choice(...whole.map((kind) => this.#ofKind(place, schema, kind)));
  }

  #ofKind(place: Place, schema: SchemaObject, kind: Kind): Node {
    switch (kind) {
      case 'null':
        return anyNull;
      case 'boolean':
        return anyBoolean;
      case 'integer':
      case 'number':
        return this.#number(schema, place.at, kind === 'integer');
      case 'string':
        return this.#string(schema, place.at);
      case 'array':
        return this.#array(place, schema);
      case 'object':
        return this.#object(place, schema);
    }
  }

  #number(schema: SchemaObject, at: string, whole: boolean): Node {
    const bounds = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'] as const;
    for (const key of bounds) {
      const bound = schema[key];
      if (bound !== undefined && (typeof bound !== 'number' || !Number.isFinite(bound)))
        refuse(at, `has a '${key}' that is no number`);
    }
    if (!whole && bounds.every((key) => schema[key] === undefined)) return anyNumber(this.rules);
    const places = whole ? 0 : PLACES;
    const ends = bounds.map((key) =>
      schema[key] === undefined ? null : scaled(schema[key] as number, key, places, at),
    );
    const [least, most, above, below] = ends as [bigint | null, bigint | null, bigint | null, bigint | null];
    const from = above === null ? least : least === null || above > least ? above : least;
    const to = below === null ? most : most === null || below < most ? below : most;
    return (
      (whole ? integers(from, to) : decimals(from, to, places)) ??
      refuse(at, 'has bounds between which there is no number')
    );
  }

  #string(schema: SchemaObject, at: string): Node {
    const least = count(schema, 'minLength', at) ?? 0;
    const most = count(schema, 'maxLength', at);
    if (most !== null && most < least) refuse(at, "has a 'maxLength' below its 'minLength'");
    const { pattern, format } = schema;
    if (pattern === undefined && format === undefined) return anyString(this.rules, least, most);
    if (typeof (pattern ?? format) !== 'string')
      refuse(at, `has a '${pattern === undefined ? 'format' : 'pattern'}' that is no text`);
    // Beside a pattern, a format is what JSON Schema has it be: an annotation. Generators of schemas send both.
    const source = pattern === undefined ? formatOf(format as string) : (pattern as string);
    if (source === null) return refuse(at, `has the format '${String(format).slice(0, 80)}', which is not supported`);
    const regex = located(at, () => regexGrammar(source, stringSet));
    if (!within(regex, least, most))
      refuse(at, "has lengths beside a 'pattern' or 'format' that allows others; say them in the pattern");
    return quoted(regex.node);
  }

  #array(place: Place, schema: SchemaObject): Node {
    const { at } = place;
    const { rules } = this;
    const { prefixItems = [], items } = schema;
    if (!Array.isArray(prefixItems)) return refuse(at, "has 'prefixItems' that is no list of schemas");
    if (Array.isArray(items)) return refuse(at, "has a list as 'items'; write it as 'prefixItems'");
    const least = count(schema, 'minItems', at) ?? 0;
    const most = count(schema, 'maxItems', at);
    if (most !== null && most < least) refuse(at, "has a 'maxItems' below its 'minItems'");
    if (prefixItems.length === 0 && items === undefined && least === 0 && most === null) return anyArray(rules);
    const first = prefixItems
      .slice(0, most ?? undefined)
      .map((each, i) => this.#compile(inner(place, each, `/prefixItems/${i}`)));
    // With a list of first items and nothing said of more, none come.
    const closed = items === false || (items === undefined && prefixItems.length >= least && first.length > 0);
    if (items === false && least > prefixItems.length) refuse(at, "has a 'minItems' that its items cannot reach");
    const restLeast = Math.max(0, least - first.length);
    const restMost = closed ? 0 : most === null ? null : most - first.length;
    const item = restMost === 0 ? null : this.#named('item', this.#compile(inner(place, items ?? true, '/items')));
    const more = (from: number, to: number | null) =>
      item === null ? [] : [repeat(sequence(comma(rules), item), from, to)];
    if (first.length > 0) {
      const parts = first.flatMap((node, i) => (i === 0 ? [node] : [comma(rules), node]));
      return listed(rules, '[', sequence(...parts, ...more(restLeast, restMost)), ']');
    }
    if (item === null) return listed(rules, '[', text(''), ']');
    const some = sequence(item, ...more(Math.max(0, restLeast - 1), restMost === null ? null : restMost - 1));
    return listed(rules, '[', restLeast === 0 ? optional(some) : some, ']');
  }

  #object(place: Place, schema: SchemaObject): Node {
    const { at } = place;
    const { rules } = this;
    const { properties = {}, required = [], additionalProperties: others } = schema;
    if (!isRecord(properties)) return refuse(at, "has 'properties' that is no object");
    if (!Array.isArray(required) || required.some((name) => typeof name !== 'string' || name.length > MAX_NAME))
      return refuse(at, "has a 'required' that is no list of names");
    const unnamed = required.find((name) => !Object.hasOwn(properties, name));
    if (unnamed !== undefined && others === false)
      refuse(at, `requires '${String(unnamed).slice(0, 80)}', which is not among its 'properties'`);
    const long = Object.keys(properties).find((name) => name.length > MAX_NAME);
    if (long !== undefined) refuse(at, `names a property of ${long.length} characters, ${MAX_NAME} are the most`);
    const names = [...new Set([...Object.keys(properties), ...(required as string[])])];
    if (names.length === 0 && others === undefined) return anyObject(rules);
    const open = others !== undefined && others !== false;
    const rest =
      open || unnamed !== undefined
        ? this.#named('other', this.#compile(inner(place, others ?? true, '/additionalProperties')))
        : null;
    const members = names.map((name) => {
      const own = Object.hasOwn(properties, name);
      const value = own ? this.#compile(inner(place, properties[name], `/properties/${name}`)) : rest!;
      return {
        node: this.#named(name, member(rules, text(JSON.stringify(name)), value)),
        needed: required.includes(name),
      };
    });
    // From the last property to the first: what may follow where something came before, and where nothing did.
    const extra = open ? member(rules, otherKeys(rules, names), rest!) : null;
    let after: Node = extra ? repeat(sequence(comma(rules), extra), 0, null) : text('');
    let begin: Node = extra ? optional(sequence(extra, after)) : text('');
    for (const { node, needed } of members.reverse()) {
      const next = sequence(comma(rules), node, after);
      const start = sequence(node, after);
      begin = this.#named('members', needed ? start : choice(start, begin));
      after = this.#named('more', needed ? next : choice(next, after));
    }
    return listed(rules, '{', begin, '}');
  }

  /** What is used more than once, by its name. */
  #named(hint: string, node: Node): Node {
    if (node.kind === 'rule' || (node.kind === 'text' && node.text.length < 8)) return node;
    const name = this.rules.reserve(hint);
    this.rules.define(name, node);
    return { kind: 'rule', name };
  }
}

/** Decimal places to which bounds of numbers are held. */
const PLACES = 9;
/** Beyond it a double no longer tells places apart that small. */
const LARGE = 2 ** 20;

/** Keywords that are taken where they ask for nothing. */
const MEANT_NOTHING: Readonly<Record<string, (value: unknown) => boolean>> = {
  uniqueItems: (value) => value === false,
  minProperties: (value) => value === 0,
  // What zod writes of every record: keys of JSON are strings.
  propertyNames: (value) => isRecord(value) && Object.keys(value).length === 1 && value.type === 'string',
};

/** A bound times 10^places, moved inward to the next number that is within; the next one after it where it is exclusive. */
function scaled(bound: number, key: string, places: number, at: string): bigint {
  const upper = key === 'maximum' || key === 'exclusiveMaximum';
  const step = upper ? -1n : 1n;
  if (Math.abs(bound) > 1e15) return BigInt(Math.trunc(bound)) * 10n ** BigInt(places);
  const rounded = upper ? Math.floor(bound) : Math.ceil(bound);
  const exact = places > 0 && Number(bound.toFixed(places)) === bound;
  if (places > 0 && !exact && rounded !== bound) refuse(at, `has a '${key}' of more than ${places} decimal places`);
  const value = exact ? BigInt(bound.toFixed(places).replace('.', '')) : BigInt(rounded) * 10n ** BigInt(places);
  if (!key.startsWith('exclusive') || (places === 0 && rounded !== bound)) return value;
  return value + step * (places > 0 && Math.abs(bound) > LARGE ? 10n ** BigInt(places) : 1n);
}

function within({ shortest, longest }: Regex, least: number, most: number | null): boolean {
  return shortest >= least && (most === null || (longest !== null && longest <= most));
}

function count(schema: SchemaObject, key: string, at: string): number | null {
  const value = schema[key];
  if (value === undefined) return null;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  return refuse(at, `has a '${key}' that is no whole number from 0 on`);
}

/** A schema inside `place`, after something of the text unless `through` says otherwise. */
function inner(place: Place, schema: unknown, path: string, through: ReadonlySet<string> = new Set()): Place {
  return { schema, at: `${place.at}${path}`, depth: place.depth + 1, through };
}

function located<T>(at: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof GrammarError) refuse(at, `cannot be used: ${error.message}`);
    throw error;
  }
}

function refuse(at: string, what: string): never {
  throw new GrammarError(`the schema at ${at.slice(0, 300)} ${what}`);
}
