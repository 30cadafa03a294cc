import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { jsonObjectGrammar, jsonSchemaGrammar } from '../../../../src/frontend/grammar/json-schema.ts';
import { SCHEMAS } from '../../../support/schemas.ts';
import { numbers, Sentences } from '../../../support/sentences.ts';

const sentences = await Sentences.open();

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
    ['names that a pattern is found in', SCHEMAS['names by patterns'], '{"id":3,"n05":5,"s_é x":true,"s_":false}'],
    ['a pattern alone', { patternProperties: { b: { const: 1 } } }, '{"abc":1,"b":1}'],
    ['no property at all', { patternProperties: { b: { const: 1 } } }, '{}'],
    ['merged, in the order of the parts', SCHEMAS['all of several'], '{"name":"a","size":12,"on":false}'],
    ['a choice beside properties', SCHEMAS['a choice beside properties'], '{"b":"y"}'],
    ['a reference with more beside it', SCHEMAS['a reference with more beside it'], '[12,24,36]'],
    [
      'a choice in each of two parts',
      { allOf: [{ anyOf: [{ type: 'string' }, { type: 'integer' }] }, { anyOf: [{ const: 'a' }, { minimum: 3 }] }] },
      '3',
    ],
    [
      'a merged schema that comes back to itself',
      {
        $defs: {
          node: { allOf: [{ $ref: '#/$defs/named' }, { properties: { next: { $ref: '#/$defs/node' } } }] },
          named: { type: 'object', properties: { n: { const: 1 } } },
        },
        $ref: '#/$defs/node',
      },
      '{"n":1,"next":{"next":{}}}',
    ],
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
    ['a multiple of one factor alone', SCHEMAS['a reference with more beside it'], '[12,24,18]'],
    ['a name of no pattern', SCHEMAS['names by patterns'], '{"id":3,"n005":5}'],
    ['a name whose value is that of another pattern', SCHEMAS['names by patterns'], '{"id":3,"s_":5}'],
    ['what one part requires', SCHEMAS['all of several'], '{"name":"a","size":12}'],
    ['what one part bounds', SCHEMAS['all of several'], '{"name":"a","size":12.5,"on":true}'],
    ['neither of a choice', SCHEMAS['a choice beside properties'], '{}'],
    [
      'what another part forbids',
      { allOf: [{ properties: { a: {} }, additionalProperties: false }, { properties: { b: {} } }] },
      '{"b":1}',
    ],
    [
      'what is to another part one of the others',
      { allOf: [{ additionalProperties: { type: 'integer' } }, { properties: { b: { minimum: 3 } } }] },
      '{"b":2}',
    ],
    ['half of a surrogate pair', { type: 'string' }, '"\\ud83d"'],
    ['a leading zero', { type: 'integer' }, '01'],
    ['a fraction', { type: 'integer' }, '1.5'],
    ['a text cut short', { type: 'object' }, '{"a":1'],
    ['blanks before it', { type: 'integer' }, ' 1'],
  ])('%s', async (_name, schema, text) => {
    expect(await accepts(schema, text)).toBe(false);
  });
});

describe('formats that the validator of these tests does not know', () => {
  const KNOWN: Record<string, (text: string) => boolean> = {
    'uri-reference': (text) => URL.canParse(text, 'http://a.b/c'),
    // RFC 6901, section 3.
    'json-pointer': (text) => /^(\/([^~/]|~0|~1)*)*$/.test(text),
    'relative-json-pointer': (text) => /^(0|[1-9]\d*)(#|(\/([^~/]|~0|~1)*)*)$/.test(text),
  };
  it.each(Object.keys(KNOWN))('%s', async (format) => {
    const grammar = jsonSchemaGrammar({ type: 'string', format });
    const seen = new Set<string>();
    for (let i = 0; i < 25; i++) {
      const text = await sentences.random(grammar, numbers(i + 1));
      if (text === null) continue;
      seen.add(text);
      expect(KNOWN[format]?.(JSON.parse(text)), text).toBe(true);
    }
    expect(seen.size).toBeGreaterThan(3);
    expect(await sentences.accepts(grammar, format === 'relative-json-pointer' ? '"1/a/~1"' : '"/a/b-1"')).toBe(true);
  });
});

describe('multiples', () => {
  it('exactly those between', async () => {
    const ends = fc.tuple(fc.integer({ min: -2000, max: 2000 }), fc.integer({ min: 100, max: 3000 }));
    const factors = fc.constantFrom(1, 2, 3, 7, 12, 16, 25, 41, 60, 100);
    const others = fc.array(fc.integer({ min: -300, max: 300 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(ends, factors, others, async ([least, width], factor, near) => {
        const most = least + width;
        const grammar = jsonSchemaGrammar({ type: 'integer', multipleOf: factor, minimum: least, maximum: most });
        const edges = [Math.floor(least / factor) * factor, Math.ceil(most / factor) * factor];
        for (const n of [...edges, ...edges.map((x) => x + 1), 0, ...near, ...near.map((k) => k * factor)]) {
          const valid = n >= least && n <= most && n % factor === 0;
          const text = String(n === 0 ? 0 : n);
          expect(await sentences.accepts(grammar, text), `${n} in ${least}..${most} by ${factor}`).toBe(valid);
        }
      }),
      { numRuns: 25, seed: 7 },
    );
  });

  it('without bounds, up to 15 digits', async () => {
    const grammar = jsonSchemaGrammar({ type: 'integer', multipleOf: 512 });
    for (const n of [0, 512, -1024, 512 * 987654321, 999_999_999_999_999 - (999_999_999_999_999 % 512)])
      expect(await sentences.accepts(grammar, String(n))).toBe(true);
    for (const n of ['-0', '511', '0512', '512000000000000000', '512.0'])
      expect(await sentences.accepts(grammar, n)).toBe(false);
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
    [
      { patternProperties: { '^a': {} }, additionalProperties: {} },
      "'additionalProperties' beside 'patternProperties'",
    ],
    [{ properties: { ab: {} }, patternProperties: { '^a': {} } }, "'ab', in which the pattern '^a'"],
    [{ required: ['ab'], patternProperties: { b: {} } }, "'ab', in which the pattern 'b'"],
    [{ patternProperties: { '^a': {}, b$: {} } }, "found in the same name as 'b$'"],
    [{ patternProperties: { 'a|^b': {}, '^bc$': {} } }, "found in the same name as '^bc$'"],
    [{ patternProperties: { '(?=a)': {} } }, 'look-around'],
    [{ patternProperties: { '(a{90}){90}': {} } }, 'more than 2000 states'],
    [{ type: 'object', propertyNames: { pattern: 'a' } }, "has 'propertyNames'"],
    [{ type: 'object', minProperties: 1 }, "has 'minProperties'"],
    [{ type: 'number', multipleOf: 0.1 }, "has 'multipleOf' 0.1; only whole numbers"],
    [{ type: 'integer', multipleOf: 0 }, "'multipleOf' that is no number above 0"],
    [{ type: 'integer', multipleOf: 7919 }, "'multipleOf' 7919 needs too large a grammar"],
    [{ type: 'integer', multipleOf: 7, minimum: 1, maximum: 6 }, 'between which there is no number'],
    [{ dependentRequired: { a: ['b'] } }, "has 'dependentRequired'"],
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
    [{ enum: ['a', 'bc'], minLength: 2 }, "has 'minLength' beside 'enum'"],
    [{ allOf: [{ enum: ['a', 'bc'] }, { minLength: 2 }] }, "has 'minLength' beside 'enum'"],
    [{ allOf: [{ type: 'string' }, { type: 'integer' }] }, 'parts that cannot hold at once'],
    [{ allOf: [{ const: 1 }, { enum: [2, 3] }] }, 'parts that cannot hold at once'],
    [{ allOf: [{ type: 'string', pattern: 'a' }, { pattern: 'b' }] }, "says 'pattern' twice"],
    [{ allOf: [{ items: {} }, { prefixItems: [{}] }] }, "'prefixItems' and 'items' in several schemas"],
    [
      { allOf: [{ properties: { a: {} } }, { patternProperties: { '^b': {} } }] },
      "'patternProperties' beside what other",
    ],
    [{ allOf: [{ required: ['a'] }, { not: {} }] }, "has 'not'"],
    [{ allOf: [{}, { type: 'object', uniqueItems: true }] }, "has 'uniqueItems'"],
    [{ allOf: [{ $ref: '#' }, {}] }, 'comes back to # with nothing in between'],
    [{ allOf: [{ $ref: '#/x' }, {}] }, 'refers to #/x, which is not there'],
    [{ allOf: [{ properties: { a: {} }, additionalProperties: false }, { required: ['b'] }] }, "requires 'b'"],
    [
      { allOf: [{ type: 'object', properties: { a: {} }, required: ['a'] }, { additionalProperties: false }] },
      "requires 'a'",
    ],
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
    // Each refers to the next one twice.
    const doubling = Object.fromEntries(
      Array.from({ length: 24 }, (_, i) => [`d${i}`, { allOf: Array(2).fill({ $ref: `#/$defs/d${i + 1}` }) }]),
    );
    const twice = { $defs: { ...doubling, d24: { type: 'object' } }, $ref: '#/$defs/d0' };
    expect(() => jsonSchemaGrammar(twice)).toThrow('more than 10000 schemas');
    const both = { anyOf: Array.from({ length: 20 }, (_, i) => ({ minimum: i })) };
    expect(() => jsonSchemaGrammar({ allOf: [both, both] })).toThrow('more than 256 alternatives');
    const deep = (depth: number): object => (depth === 0 ? {} : { allOf: [{}, deep(depth - 1)] });
    expect(() => jsonSchemaGrammar(deep(100))).toThrow('more than 64 schemas deep');
  });
});
