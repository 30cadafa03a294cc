import * as z from 'zod';
import { Grammar, type HeldTo, MAX_GRAMMAR_LENGTH } from '../../protocol/generate.ts';
import type { ServedModel } from '../backend.ts';
import { badRequest } from '../errors.ts';
import { choice, GrammarError, Rules, text } from './ebnf.ts';
import { jsonObjectGrammar, jsonSchemaGrammar } from './json-schema.ts';
import { type Regex, regexGrammar } from './regex.ts';

const MAX_CHOICES = 1024;

/** A JSON Schema. */
export const Schema = z.union([z.record(z.string(), z.unknown()), z.boolean()], 'must be a JSON Schema: an object');
/** A schema, or its text, as vLLM takes it. */
const SchemaOrText = z.union(
  [
    Schema,
    z
      .string()
      .max(1 << 20)
      .transform(parsed),
  ],
  'must be a JSON Schema, or its text',
);
const Pattern = z.string().min(1).max(MAX_GRAMMAR_LENGTH);
const Choices = z.array(z.string().min(1).max(MAX_GRAMMAR_LENGTH)).min(1).max(MAX_CHOICES);

const Named = z.strictObject({
  name: z.string().min(1).max(256),
  description: z.string().optional(),
  schema: Schema,
  // Output is always held to the schema, whatever this says.
  strict: z.boolean().nullish(),
});

/** OpenAI's `response_format`. */
const ResponseFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({ type: z.literal('json_schema'), json_schema: Named }),
]);

/** vLLM's `structured_outputs`. */
const StructuredOutputs = z.strictObject({
  json: SchemaOrText.optional(),
  regex: Pattern.optional(),
  choice: Choices.optional(),
  grammar: Grammar.optional(),
  json_object: z.literal(true, 'true, or left out').optional(),
});

/** Fields that hold an answer to a grammar; at most one of them counts. */
export const structuredFields = {
  response_format: ResponseFormat.optional(),
  structured_outputs: StructuredOutputs.optional(),
  guided_json: SchemaOrText.optional(),
  guided_regex: Pattern.optional(),
  guided_choice: Choices.optional(),
  guided_grammar: Grammar.optional(),
};
export type StructuredFields = z.infer<z.ZodObject<typeof structuredFields>>;

/** One wish for a grammar, and the field that it came in. */
export interface GrammarWish {
  readonly field: string;
  /** Throws `GrammarError`, or `ApiError` 400. */
  grammar(): string;
}

/**
 * The grammar that a request holds its answer to, if any; with `ignore_eos` it may end, and the answer does not. Throws `ApiError` 400: several of
 * them, a schema or pattern that cannot be held to.
 */
export function structuredOutput(
  fields: StructuredFields & { readonly ignore_eos?: boolean | undefined },
  model: Pick<ServedModel, 'tokenizer' | 'eosIds'>,
  /** That of another field. */
  forced: GrammarWish | null = null,
): HeldTo {
  const [wish, other] = [...(forced ? [forced] : []), ...wishes(fields)];
  if (wish === undefined) return {};
  const { field } = wish;
  if (other)
    throw badRequest(
      `'${field}' and '${other.field}' both say what the answer must be: send one of them.`,
      other.field,
    );
  if (model.tokenizer === null)
    throw badRequest(`'${field}' needs text, and this server runs without a tokenizer (--skip-tokenizer-init).`, field);
  if (model.eosIds.length === 0)
    throw badRequest(
      `'${field}' needs a token that ends an answer, and this model names none (eos_token_id in its config.json).`,
      field,
    );
  try {
    const grammar = wish.grammar();
    return fields.ignore_eos ? { grammar, grammarEnds: [...model.eosIds] } : { grammar };
  } catch (error) {
    if (error instanceof GrammarError)
      throw badRequest(`Cannot hold the answer to '${field}': ${error.message}.`, field);
    throw error;
  }
}

function wishes(fields: StructuredFields): GrammarWish[] {
  const found: GrammarWish[] = [];
  const add = <T>(field: string, value: T | undefined, grammar: (value: T) => string) => {
    if (value !== undefined) found.push({ field, grammar: () => grammar(value) });
  };
  const { response_format: format, structured_outputs: outputs = {} } = fields;
  if (format?.type === 'json_object') add('response_format', format, jsonObjectGrammar);
  if (format?.type === 'json_schema') add('response_format', format.json_schema.schema, jsonSchemaGrammar);
  add('structured_outputs.json', outputs.json, jsonSchemaGrammar);
  add('structured_outputs.regex', outputs.regex, patternGrammar);
  add('structured_outputs.choice', outputs.choice, choiceGrammar);
  add('structured_outputs.grammar', outputs.grammar, (grammar) => grammar);
  add('structured_outputs.json_object', outputs.json_object, jsonObjectGrammar);
  add('guided_json', fields.guided_json, jsonSchemaGrammar);
  add('guided_regex', fields.guided_regex, patternGrammar);
  add('guided_choice', fields.guided_choice, choiceGrammar);
  add('guided_grammar', fields.guided_grammar, (grammar) => grammar);
  return found;
}

function patternGrammar(pattern: string): string {
  const { node }: Regex = regexGrammar(pattern, (chars) => ({ kind: 'set', set: chars }));
  return rootOf(node);
}

function choiceGrammar(choices: readonly string[]): string {
  return rootOf(choice(...choices.map(text)));
}

function rootOf(node: Regex['node']): string {
  const rules = new Rules();
  rules.reserve('root');
  rules.define('root', node);
  return rules.print();
}

function parsed(schema: string, context: z.RefinementCtx): z.infer<typeof Schema> {
  try {
    const value = Schema.safeParse(JSON.parse(schema));
    if (value.success) return value.data;
  } catch {
    // Said below.
  }
  context.addIssue('is no JSON Schema');
  return z.NEVER;
}
