import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { automatonOf, overlap } from '../../../../src/frontend/grammar/automaton.ts';
import { GrammarError } from '../../../../src/frontend/grammar/ebnf.ts';
import { jsonSchemaGrammar } from '../../../../src/frontend/grammar/json-schema.ts';
import { regexGrammar } from '../../../../src/frontend/grammar/regex.ts';
import { numbers, Sentences } from '../../../support/sentences.ts';

const sentences = await Sentences.open();

const number = fc.record(
  {
    type: fc.constantFrom('integer', 'number'),
    minimum: fc.integer({ min: -20, max: 3 }),
    maximum: fc.integer({ min: 30, max: 90 }),
    multipleOf: fc.constantFrom(2, 3, 10),
  },
  { requiredKeys: ['type'] },
);
const leaf = fc.oneof(
  { weight: 6, arbitrary: number },
  fc.record({ enum: fc.subarray([1, 2, 6, 'a', 'b', null], { minLength: 1 }) }),
  fc.record({
    type: fc.constant('string'),
    minLength: fc.integer({ min: 0, max: 2 }),
    maxLength: fc.integer({ min: 2, max: 4 }),
  }),
);
const object = fc
  .record(
    {
      properties: fc.dictionary(fc.constantFrom('a', 'b', 'c'), leaf, { maxKeys: 3 }),
      required: fc.subarray(['a', 'b', 'c']),
      additionalProperties: fc.oneof(fc.constantFrom(true, true, true, false), leaf),
    },
    { requiredKeys: ['properties'] },
  )
  .map((schema) => ({ type: 'object', ...schema }));
const part = fc.oneof(
  object,
  object,
  fc.array(object, { minLength: 1, maxLength: 2 }).map((anyOf) => ({ anyOf })),
);

describe('schemas that must all hold', () => {
  it('every sentence is valid by each of them', async () => {
    let [drawn, refused] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 2, maxLength: 3 }), fc.nat(), async (allOf, seed) => {
        let grammar: string;
        try {
          grammar = jsonSchemaGrammar({ allOf });
        } catch (error) {
          if (!(error instanceof GrammarError)) throw error;
          refused++;
          return;
        }
        for (let i = 0; i < 3; i++) {
          const text = await sentences.random(grammar, numbers(seed + i), 150);
          if (text === null) continue;
          drawn++;
          for (const schema of allOf) {
            const valid = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]);
            const result = valid.safeParse(JSON.parse(text));
            if (!result.success)
              throw new Error(`${text}\n${JSON.stringify(schema)}\n${z.prettifyError(result.error)}`);
          }
        }
      }),
      { numRuns: 100, seed: 4 },
    );
    expect(drawn).toBeGreaterThan(40);
    expect(refused).toBeLessThan(80);
  });
});

describe('whether two patterns have a text in common', () => {
  const atom = fc.constantFrom('a', 'b', 'c', '[ab]', '[^a]', 'a*', 'b+', 'c?', '(ab|c)', '(a|b){1,2}', '.');
  const pattern = fc.array(atom, { minLength: 1, maxLength: 4 }).map((atoms) => atoms.join(''));
  const of = (source: string) => automatonOf(regexGrammar(source, (set) => ({ kind: 'set', set })).node);
  /** All texts of three letters and at most five characters: as far as the shortest one that two of these patterns share. */
  const texts = ['a', 'b', 'c'].reduce<string[]>((all) => all, ['']);
  for (let at = 0; at < texts.length; at++)
    if (texts[at]!.length < 8) for (const letter of 'abc') texts.push(texts[at] + letter);

  it('as all short texts say', () => {
    let shared = 0;
    fc.assert(
      fc.property(pattern, pattern, (a, b) => {
        const [left, right] = [new RegExp(`^(?:${a})$`, 'u'), new RegExp(`^(?:${b})$`, 'u')];
        const expected = texts.some((text) => left.test(text) && right.test(text));
        if (expected) shared++;
        expect(overlap(of(a), of(b)), `${a} ${b}`).toBe(expected);
      }),
      { numRuns: 150, seed: 2 },
    );
    expect(shared).toBeGreaterThan(20);
    expect(shared).toBeLessThan(130);
  });
});
