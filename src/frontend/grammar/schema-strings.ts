import type { Node, Rules } from './ebnf.ts';
import { formatOf } from './formats.ts';
import { anyString, quoted, stringSet } from './json-text.ts';
import { type Regex, regexGrammar } from './regex.ts';
import type { SchemaObject } from './schema-facts.ts';
import { count, located, refuse } from './schema-place.ts';

/** The strings that a schema holds for. Throws `GrammarError`. */
export function stringNode(schema: SchemaObject, at: string, rules: Rules): Node {
  const least = count(schema, 'minLength', at) ?? 0;
  const most = count(schema, 'maxLength', at);
  if (most !== null && most < least) refuse(at, "has a 'maxLength' below its 'minLength'");
  const { pattern, format } = schema;
  if (pattern === undefined && format === undefined) return anyString(rules, least, most);
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

function within({ shortest, longest }: Regex, least: number, most: number | null): boolean {
  return shortest >= least && (most === null || (longest !== null && longest <= most));
}
