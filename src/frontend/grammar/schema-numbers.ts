import type { Node, Rules } from './ebnf.ts';
import { anyNumber } from './json-text.ts';
import { multiples } from './multiples.ts';
import { decimals, integers } from './number-ranges.ts';
import type { SchemaObject } from './schema-facts.ts';
import { refuse } from './schema-place.ts';

/** Decimal places to which bounds of numbers are held. */
const PLACES = 9;
/** Beyond it a double no longer tells places apart that small. */
const LARGE = 2 ** 20;

/** The numbers that a schema holds for, or its integers where `whole`. Throws `GrammarError`. */
export function numberNode(schema: SchemaObject, at: string, whole: boolean, rules: Rules): Node {
  const bounds = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'] as const;
  for (const key of bounds) {
    const bound = schema[key];
    if (bound !== undefined && (typeof bound !== 'number' || !Number.isFinite(bound)))
      refuse(at, `has a '${key}' that is no number`);
  }
  const factor = factorOf(schema, at);
  const integral = whole || factor !== null;
  if (!integral && bounds.every((key) => schema[key] === undefined)) return anyNumber(rules);
  const places = integral ? 0 : PLACES;
  const ends = bounds.map((key) => (schema[key] === undefined ? null : scaled(schema[key] as number, key, places, at)));
  const [least, most, above, below] = ends as [bigint | null, bigint | null, bigint | null, bigint | null];
  const from = above === null ? least : least === null || above > least ? above : least;
  const to = below === null ? most : most === null || below < most ? below : most;
  const node =
    factor !== null ? multiples(from, to, factor, rules) : whole ? integers(from, to) : decimals(from, to, places);
  return node ?? refuse(at, 'has bounds between which there is no number');
}

/** null where it asks for nothing that integers do not have. */
function factorOf({ multipleOf }: SchemaObject, at: string): number | null {
  if (multipleOf === undefined) return null;
  if (typeof multipleOf !== 'number' || !(multipleOf > 0))
    return refuse(at, "has a 'multipleOf' that is no number above 0");
  // Of other fractions doubles have no exact multiples, and those who check them disagree.
  if (Number.isInteger(multipleOf)) return multipleOf;
  return refuse(at, `has 'multipleOf' ${multipleOf}; only whole numbers are supported, use a 'pattern' of a string`);
}

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
