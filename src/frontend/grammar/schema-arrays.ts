import { type Node, optional, repeat, sequence, text } from './ebnf.ts';
import { anyArray, comma, listed } from './json-text.ts';
import type { SchemaObject } from './schema-facts.ts';
import { count, inner, type Place, refuse, type SchemaCompiler } from './schema-place.ts';

/** The arrays that a schema holds for. Throws `GrammarError`. */
export function arrayNode(place: Place, schema: SchemaObject, compiler: SchemaCompiler): Node {
  const { at } = place;
  const { rules } = compiler;
  const { prefixItems = [], items } = schema;
  if (!Array.isArray(prefixItems)) return refuse(at, "has 'prefixItems' that is no list of schemas");
  if (Array.isArray(items)) return refuse(at, "has a list as 'items'; write it as 'prefixItems'");
  const least = count(schema, 'minItems', at) ?? 0;
  const most = count(schema, 'maxItems', at);
  if (most !== null && most < least) refuse(at, "has a 'maxItems' below its 'minItems'");
  if (prefixItems.length === 0 && items === undefined && least === 0 && most === null) return anyArray(rules);
  const first = prefixItems
    .slice(0, most ?? undefined)
    .map((each, i) => compiler.compile(inner(place, each, `/prefixItems/${i}`)));
  // With a list of first items and nothing said of more, none come.
  const closed = items === false || (items === undefined && prefixItems.length >= least && first.length > 0);
  if (items === false && least > prefixItems.length) refuse(at, "has a 'minItems' that its items cannot reach");
  const restLeast = Math.max(0, least - first.length);
  const restMost = closed ? 0 : most === null ? null : most - first.length;
  const item = restMost === 0 ? null : compiler.named('item', compiler.compile(inner(place, items ?? true, '/items')));
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
