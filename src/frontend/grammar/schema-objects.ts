import { automatonOf, overlap } from './automaton.ts';
import { ANY } from './char-sets.ts';
import { choice, type Node, optional, repeat, sequence, text } from './ebnf.ts';
import { anyObject, comma, listed, member, quoted, stringSet } from './json-text.ts';
import { keyRest, otherKeys } from './other-keys.ts';
import { regexGrammar, type WholeRegex } from './regex.ts';
import { isRecord, type SchemaObject } from './schema-facts.ts';
import { inner, located, type Place, refuse, type SchemaCompiler } from './schema-place.ts';

const MAX_NAME = 256;

/** Properties in the order of the schema, then those whose names a pattern or nothing describes. Throws `GrammarError`. */
export function objectNode(place: Place, schema: SchemaObject, compiler: SchemaCompiler): Node {
  const { at } = place;
  const { rules } = compiler;
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
  const patterns = patternMembers(place, schema, names, compiler);
  if (names.length === 0 && patterns.length === 0 && others === undefined) return anyObject(rules);
  const open = others !== undefined && others !== false;
  const rest =
    open || unnamed !== undefined
      ? compiler.named('other', compiler.compile(inner(place, others ?? true, '/additionalProperties')))
      : null;
  const members = names.map((name) => {
    const own = Object.hasOwn(properties, name);
    const value = own ? compiler.compile(inner(place, properties[name], `/properties/${name}`)) : rest!;
    return {
      node: compiler.named(name, member(rules, text(JSON.stringify(name)), value)),
      needed: required.includes(name),
    };
  });
  // From the last property to the first: what may follow where something came before, and where nothing did.
  const extras = open ? [member(rules, otherKeys(rules, names), rest!)] : patterns;
  const extra = extras.length > 0 ? choice(...extras) : null;
  let after: Node = extra ? repeat(sequence(comma(rules), extra), 0, null) : text('');
  let begin: Node = extra ? optional(sequence(extra, after)) : text('');
  for (const { node, needed } of members.reverse()) {
    const next = sequence(comma(rules), node, after);
    const start = sequence(node, after);
    begin = compiler.named('members', needed ? start : choice(start, begin));
    after = compiler.named('more', needed ? next : choice(next, after));
  }
  return listed(rules, '{', begin, '}');
}

/** Members in whose names a pattern is found. Where that may be two patterns, or the name is that of a property, it is refused: both would have to hold. */
function patternMembers(
  place: Place,
  { patternProperties, additionalProperties }: SchemaObject,
  names: readonly string[],
  compiler: SchemaCompiler,
): Node[] {
  const { at } = place;
  if (patternProperties === undefined) return [];
  if (!isRecord(patternProperties)) return refuse(at, "has 'patternProperties' that is no object");
  if (additionalProperties !== undefined && additionalProperties !== false)
    refuse(at, "has 'additionalProperties' beside 'patternProperties'; make it false, which is what is generated");
  const patterns = Object.entries(patternProperties).map(([pattern, schema]) => {
    const key = located(at, () => regexGrammar(pattern, stringSet));
    const names = located(at, () => {
      const chars = regexGrammar(pattern, (set) => ({ kind: 'set', set }));
      return automatonOf(found(chars, repeat({ kind: 'set', set: ANY }, 0, null)));
    });
    return { pattern, schema, key: found(key, keyRest(compiler.rules)), names };
  });
  for (const one of patterns) {
    const mine = `the pattern '${one.pattern.slice(0, 80)}' of its 'patternProperties'`;
    const name = names.find((each) => overlap(automatonOf(text(each)), one.names));
    if (name !== undefined) refuse(at, `has the property '${name.slice(0, 80)}', in which ${mine} is found too`);
    const other = patterns.find((each) => each !== one && located(at, () => overlap(each.names, one.names)));
    if (other !== undefined)
      refuse(at, `has ${mine}, which may be found in the same name as '${other.pattern.slice(0, 80)}'`);
  }
  return patterns.map(({ pattern, schema, key }) =>
    member(
      compiler.rules,
      compiler.named('key', quoted(key)),
      compiler.compile(inner(place, schema, `/patternProperties/${pattern}`)),
    ),
  );
}

/** All texts that a pattern is found in: with `rest` where it is not anchored. */
function found({ node, anchored: [begin, end] }: WholeRegex, rest: Node): Node {
  return sequence(...(begin ? [] : [rest]), node, ...(end ? [] : [rest]));
}
