import { GrammarError, type Node, type Rules } from './ebnf.ts';
import type { SchemaObject } from './schema-facts.ts';

/** A schema within the one that was sent. */
export interface Place {
  readonly schema: unknown;
  /** JSON pointer, for messages. */
  readonly at: string;
  readonly depth: number;
  /** References that led here with nothing of the text before them: to come back to one is to go in a circle. */
  readonly through: ReadonlySet<string>;
}

/** What the parts of a schema are translated with. */
export interface SchemaCompiler {
  readonly rules: Rules;
  compile(place: Place): Node;
  /** What is used more than once, by its name. */
  named(hint: string, node: Node): Node;
}

/** A schema inside `place`, after something of the text unless `through` says otherwise. */
export function inner(place: Place, schema: unknown, path: string, through: ReadonlySet<string> = new Set()): Place {
  return { schema, at: `${place.at}${path}`, depth: place.depth + 1, through };
}

export function refuse(at: string, what: string): never {
  throw new GrammarError(`the schema at ${at.slice(0, 300)} ${what}`);
}

/** What `make` gives; where it throws `GrammarError`, the place is named. */
export function located<T>(at: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof GrammarError) refuse(at, `cannot be used: ${error.message}`);
    throw error;
  }
}

/** A number of characters or items; null where it is left out. */
export function count(schema: SchemaObject, key: string, at: string): number | null {
  const value = schema[key];
  if (value === undefined) return null;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  return refuse(at, `has a '${key}' that is no whole number from 0 on`);
}
