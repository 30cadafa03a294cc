import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { jsonObjectGrammar, jsonSchemaGrammar } from '../../../../src/frontend/grammar/json-schema.ts';
import { SCHEMAS } from '../../../support/schemas.ts';
import { Sentences } from '../../../support/sentences.ts';

const sentences = await Sentences.open();

/** The same numbers again for the same seed. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    return (state >>> 0) / 2 ** 32;
  };
}

const accepts = (schema: unknown, value: string) => sentences.accepts(jsonSchemaGrammar(schema), value);

describe('every sentence of the grammar is valid by the schema', () => {
  it.each(Object.entries(SCHEMAS))('%s', async (_name, schema) => {
    const grammar = jsonSchemaGrammar(schema);
    const valid = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]);
    const seen = new Set<string>();
    for (let i = 0; i < 12; i++) {
      const text = await sentences.random(grammar, numbers(i + 1));
      if (text === null) continue;
      seen.add(text);
      const result = valid.safeParse(JSON.parse(text));
      if (!result.success) throw new Error(`${text}\n${z.prettifyError(result.error)}`);
    }
    expect(seen.size).toBeGreaterThan(3);
  });

  it('any object is JSON', async () => {
    for (let i = 0; i < 10; i++) {
      const text = await sentences.random(jsonObjectGrammar(), numbers(i), 60);
      if (text !== null) expect(typeof JSON.parse(text)).toBe('object');
    }
    expect(await sentences.accepts(jsonObjectGrammar(), '{"a":[1,{"b":"\\u00e9\\n"}],  "c" : -1.5e+3}')).toBe(true);
  });
});

describe('what is valid, written as models write it, is a sentence', () => {
  const person = SCHEMAS['an object with required properties, no others'];
  it.each<[string, unknown, string]>([
    ['compact', person, '{"name":"Ann","age":7}'],
    ['with blanks', person, '{"name": "Ann", "age": 7}'],
    ['indented', person, '{\n  "name": "Ann",\n  "age": 150\n}'],
    ['escapes and Unicode', { type: 'string' }, '"\\"é🦊\\u00E9\\\\/"'],
    ['a bounded string', { type: 'string', maxLength: 4 }, '"\\"é€\\n"'],
    ['an array', { type: 'array', items: { type: 'integer' } }, '[1, 2,-3]'],
    ['an empty one', { type: 'array', items: { type: 'integer' } }, '[]'],
    ['of no items at all', { type: 'array', maxItems: 0 }, '[ ]'],
    ['anything', {}, '[null,{"a":true}]'],
    ['other keys', SCHEMAS['other properties that are none of the named'], '{"ab":1,"a":true,"abcd":false,"é":true}'],
    ['a name that is required and not described', { type: 'object', required: ['x'], properties: {} }, '{"x":[1]}'],
    ['pattern beside format, as zod writes them', { type: 'string', format: 'email', pattern: '^a@b$' }, '"a@b"'],
    ['a record of zod', z.toJSONSchema(z.record(z.string(), z.int())), '{"a":1,"b":-2}'],
    [
      'a discriminated union of zod',
      z.toJSONSchema(
        z.discriminatedUnion('k', [z.object({ k: z.literal('a') }), z.object({ k: z.literal('b'), n: z.number() })]),
      ),
      '{"k":"b","n":1.5}',
    ],
    ['a reference to itself', { type: 'array', items: { $ref: '#' } }, '[[],[[]]]'],
    ['a reference by escaped names', { $defs: { 'a/b~c d': { const: 1 } }, $ref: '#/$defs/a~1b~0c%20d' }, '1'],
  ])('%s', async (_name, schema, text) => {
    expect(await accepts(schema, text)).toBe(true);
  });
});

describe('what is not valid is no sentence', () => {
  it.each<[string, unknown, string]>([
    ['a property is missing', SCHEMAS['an object with required properties, no others'], '{"name":"Ann"}'],
    ['a property too many', SCHEMAS['an object with required properties, no others'], '{"name":"Ann","age":7,"x":1}'],
    ['a named property as another one', SCHEMAS['other properties that are none of the named'], '{"ab":1,"abc":true}'],
    ['the same by an escape', SCHEMAS['other properties that are none of the named'], '{"ab":1,"\\u0061bc":true}'],
    ['a control character in a string', { type: 'string', maxLength: 9 }, '"a\nb"'],
    ['a string too long', { type: 'string', maxLength: 2 }, '"é🦊x"'],
    ['half of a surrogate pair', { type: 'string' }, '"\\ud83d"'],
    ['a leading zero', { type: 'integer' }, '01'],
    ['a fraction', { type: 'integer' }, '1.5'],
    ['a text cut short', { type: 'object' }, '{"a":1'],
    ['blanks before it', { type: 'integer' }, ' 1'],
  ])('%s', async (_name, schema, text) => {
    expect(await accepts(schema, text)).toBe(false);
  });
});

describe('bounds of numbers', () => {
  it('integers: exactly those between', async () => {
    const ends = fc.tuple(fc.integer({ min: -2000, max: 2000 }), fc.integer({ min: 0, max: 3000 }));
    await fc.assert(
      fc.asyncProperty(
        ends,
        fc.array(fc.integer({ min: -6000, max: 6000 }), { maxLength: 6 }),
        async ([least, width], others) => {
          const most = least + width;
          const grammar = jsonSchemaGrammar({ type: 'integer', minimum: least, maximum: most });
          for (const n of [least - 1, least, most, most + 1, ...others])
            expect(await sentences.accepts(grammar, String(n)), `${n} in ${least}..${most}`).toBe(
              n >= least && n <= most,
            );
        },
      ),
      { numRuns: 40, seed: 5 },
    );
  });

  it('numbers: none outside, all decimals of three places inside', async () => {
    const ends = fc.tuple(fc.integer({ min: -3000, max: 3000 }), fc.integer({ min: 1, max: 4000 }));
    await fc.assert(
      fc.asyncProperty(
        ends,
        fc.boolean(),
        fc.array(fc.integer({ min: -8000, max: 8000 }), { maxLength: 8 }),
        async ([from, width], open, others) => {
          const [least, most] = [from / 1000, (from + width) / 1000];
          const bounds = open ? { exclusiveMinimum: least, exclusiveMaximum: most } : { minimum: least, maximum: most };
          const grammar = jsonSchemaGrammar({ type: 'number', ...bounds });
          for (const n of [least, most, least - 0.001, most + 0.001, ...others.map((x) => x / 1000)]) {
            const text = String(Number(n.toFixed(3)));
            const value = Number(text);
            const inside = open ? value > least && value < most : value >= least && value <= most;
            expect(await sentences.accepts(grammar, text), `${text} in ${JSON.stringify(bounds)}`).toBe(inside);
          }
        },
      ),
      { numRuns: 40, seed: 6 },
    );
  });
});

describe('what cannot be held to is refused by name and place', () => {
  const within = (schema: object) => ({ type: 'object', properties: { a: schema } });
  it.each<[unknown, string]>([
    [within({ type: 'array', uniqueItems: true }), "#/properties/a has 'uniqueItems'"],
    [within({ type: 'string', contentEncoding: 'base64' }), "#/properties/a has 'contentEncoding'"],
    [{ not: { type: 'null' } }, "# has 'not'"],
    [{ type: 'object', patternProperties: { a: {} } }, "has 'patternProperties'"],
    [{ type: 'object', propertyNames: { pattern: 'a' } }, "has 'propertyNames'"],
    [{ type: 'object', minProperties: 1 }, "has 'minProperties'"],
    [{ type: 'number', multipleOf: 2 }, "has 'multipleOf'"],
    [{ if: {}, else: {} }, "has 'if'"],
    [{ nullable: true, type: 'string' }, "has 'nullable'"],
    [{ type: 'strange' }, 'has the type "strange"'],
    [{ type: [] }, 'has the type []'],
    [{ type: 'string', format: 'shoe-size' }, "the format 'shoe-size'"],
    [{ type: 'string', pattern: '(?=a)' }, 'look-around'],
    [{ type: 'string', pattern: 'a{2}', maxLength: 1 }, "lengths beside a 'pattern'"],
    [{ type: 'string', minLength: 3, maxLength: 2 }, "'maxLength' below its 'minLength'"],
    [{ type: 'string', minLength: -1 }, "'minLength' that is no whole number"],
    [{ type: 'integer', minimum: 3, maximum: 2 }, 'between which there is no number'],
    [{ type: 'integer', minimum: '3' }, "'minimum' that is no number"],
    [{ type: 'integer', exclusiveMinimum: true }, "'exclusiveMinimum' that is no number"],
    [{ type: 'array', items: [{}] }, "write it as 'prefixItems'"],
    [{ type: 'array', items: false, minItems: 1 }, 'that its items cannot reach'],
    [{ type: 'object', properties: {}, required: ['x'], additionalProperties: false }, "requires 'x'"],
    [{ $ref: '#/$defs/x' }, 'refers to #/$defs/x, which is not there'],
    [{ $ref: 'https://example.com/x' }, "only '#...' can be followed"],
    [{ $ref: '#' }, 'comes back to # with nothing in between'],
    [{ $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }, { const: 1 }] } }, $ref: '#/$defs/a' }, 'with nothing in between'],
    [{ type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }, 'requires itself without end'],
    [{ $ref: '#/$defs/a', $defs: { a: {} }, type: 'string' }, "has 'type' beside '$ref'"],
    [{ anyOf: [{ type: 'string' }], properties: {} }, "has 'properties' beside 'anyOf'"],
    [{ allOf: [{ type: 'string' }, { minLength: 2 }] }, "'allOf' of several schemas"],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, "'oneOf' whose schemas 0 and 1 may hold at once"],
    [{ anyOf: [] }, "'anyOf' that is no list"],
    [{ enum: ['a'], type: 'integer' }, "none of whose values is of its 'type'"],
    [within(false as never), 'is false'],
    [within([] as never), 'is no schema'],
    [7, 'is no schema'],
  ])('%j', (schema, words) => {
    expect(() => jsonSchemaGrammar(schema)).toThrow(words);
  });

  it('schemas that would take for ever, by their size', () => {
    const nested = (depth: number): object => (depth === 0 ? {} : { type: 'array', items: nested(depth - 1) });
    const wide = { anyOf: Array.from({ length: 20_000 }, () => ({ type: 'null' })) };
    expect(() => jsonSchemaGrammar(nested(100))).toThrow('more than 64 schemas deep');
    expect(() => jsonSchemaGrammar(wide)).toThrow('more than 10000 schemas');
    expect(() => jsonSchemaGrammar({ type: 'string', maxLength: 1e9 })).toThrow('too large');
    expect(() => jsonSchemaGrammar({ type: 'string', pattern: '((a{1000}){1000}){1000}' })).toThrow('too large');
    expect(() => jsonSchemaGrammar({ type: 'object', properties: { ['x'.repeat(300)]: {} } })).toThrow(
      '256 are the most',
    );
    expect(() => jsonSchemaGrammar({ type: 'string', pattern: '('.repeat(5000) })).toThrow('groups in each other');
  });
});
