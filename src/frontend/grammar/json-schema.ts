import { choice, type Node, Rules, text } from './ebnf.ts';
import { anyBoolean, anyNull, anyObject, anyValue } from './json-text.ts';
import { ANNOTATIONS, alternatives, type Merging, requireApart, target } from './merge-schemas.ts';
import { arrayNode } from './schema-arrays.ts';
import { isRecord, type Kind, kindsOf, ofTypes, type SchemaObject } from './schema-facts.ts';
import { numberNode } from './schema-numbers.ts';
import { objectNode } from './schema-objects.ts';
import { inner, type Place, refuse, type SchemaCompiler } from './schema-place.ts';
import { stringNode } from './schema-strings.ts';

/** Schemas in each other, and in all, that are looked at. */
const MAX_DEPTH = 64;
const MAX_SCHEMAS = 10_000;

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
  multipleOf: 'number',
  properties: 'object',
  required: 'object',
  additionalProperties: 'object',
  patternProperties: 'object',
  items: 'array',
  prefixItems: 'array',
  minItems: 'array',
  maxItems: 'array',
};
const COMBINED = ['$ref', 'enum', 'const', 'anyOf', 'oneOf', 'allOf'] as const;

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

class SchemaGrammar implements SchemaCompiler, Merging {
  /** Rules of what `$ref`s lead to. */
  readonly #referred = new Map<string, Node>();
  #schemas = 0;

  constructor(
    readonly document: unknown,
    readonly rules: Rules,
  ) {}

  root(): Node {
    return this.compile({ schema: this.document, at: '#', depth: 0, through: new Set() });
  }

  spend({ at, depth }: Place, schemas: number): void {
    this.#schemas += schemas;
    if (this.#schemas > MAX_SCHEMAS) refuse(at, `has more than ${MAX_SCHEMAS} schemas before it`);
    if (depth > MAX_DEPTH) refuse(at, `lies more than ${MAX_DEPTH} schemas deep`);
  }

  compile(place: Place): Node {
    const { schema, at, depth } = place;
    this.spend(place, 1);
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
    const typed = way === 'enum' || way === 'const';
    const beside = keys.find((key) => key !== way && !(typed && key === 'type') && !MEANT_NOTHING[key]);
    if (beside !== undefined && typed && combined.length === 1)
      refuse(at, `has '${beside}' beside '${way}'; leave out the values that it does not hold for, and it`);
    if (beside !== undefined || way === 'allOf') return this.#merged(place, schema);
    if (way === '$ref') return this.#ref(place, schema.$ref);
    return typed ? this.#values(schema, at, way) : this.#choices(place, schema, way);
  }

  #choices(place: Place, schema: SchemaObject, way: 'anyOf' | 'oneOf'): Node {
    const { at } = place;
    const list = schema[way];
    if (!Array.isArray(list) || list.length === 0) return refuse(at, `has a '${way}' that is no list of schemas`);
    if (way === 'oneOf') requireApart(this.document, list, at);
    return choice(...list.map((each, i) => this.compile(inner(place, each, `/${way}/${i}`, place.through))));
  }

  /** What has several parts that all must hold. */
  #merged(place: Place, schema: SchemaObject): Node {
    const { at, through } = place;
    const { allOf, ...rest } = schema;
    // As some generators write a reference that they describe.
    const alone = Array.isArray(allOf) && allOf.length === 1 && Object.keys(rest).every((key) => ANNOTATIONS.has(key));
    if (alone) return this.compile(inner(place, allOf[0], '/allOf/0', through));
    const all = alternatives(place, this);
    if (all.length === 0) refuse(at, 'has parts that cannot hold at once: nothing is valid there');
    return choice(...all.map((each) => this.compile(inner(place, each, '', through))));
  }

  #ref(place: Place, ref: unknown): Node {
    const referred = target(this.document, place, ref);
    const known = this.#referred.get(referred.at);
    if (known) return known;
    const name = this.rules.reserve(referred.at.split('/').at(-1) ?? 'ref');
    const node: Node = { kind: 'rule', name };
    this.#referred.set(referred.at, node);
    this.rules.define(name, this.compile(referred));
    return node;
  }

  #values(schema: SchemaObject, at: string, way: 'enum' | 'const'): Node {
    const all = way === 'const' ? [schema.const] : schema.enum;
    if (!Array.isArray(all)) return refuse(at, "has an 'enum' that is no list");
    const fitting = ofTypes(all, schema.type, at);
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
        return numberNode(schema, place.at, kind === 'integer', this.rules);
      case 'string':
        return stringNode(schema, place.at, this.rules);
      case 'array':
        return arrayNode(place, schema, this);
      case 'object':
        return objectNode(place, schema, this);
    }
  }

  /** What is used more than once, by its name. */
  named(hint: string, node: Node): Node {
    if (node.kind === 'rule' || (node.kind === 'text' && node.text.length < 8)) return node;
    const name = this.rules.reserve(hint);
    this.rules.define(name, node);
    return { kind: 'rule', name };
  }
}

/** Keywords that are taken where they ask for nothing. */
const MEANT_NOTHING: Readonly<Record<string, (value: unknown) => boolean>> = {
  uniqueItems: (value) => value === false,
  minProperties: (value) => value === 0,
  // What zod writes of every record: keys of JSON are strings.
  propertyNames: (value) => isRecord(value) && Object.keys(value).length === 1 && value.type === 'string',
};
