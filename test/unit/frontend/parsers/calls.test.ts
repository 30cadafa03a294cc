import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TOOL_CALL_PARSERS } from '../../../../src/config/parser-names.ts';
import { callParser } from '../../../../src/frontend/parsers/call-scanner.ts';
import { CALL_FORMATS } from '../../../../src/frontend/parsers/model-parsers.ts';
import { type Call, TOOLS, WRITERS } from './formats.ts';
import { pieces, read, units } from './read.ts';

/** Text without what the formats use as marks, which is what models have to keep to. */
const plain = fc
  .string({ unit: 'grapheme', maxLength: 30 })
  .map((text) => text.replace(/[<>[\]{}|]/g, '~').replaceAll('functools', '~'));
const json = fc.jsonValue({ maxDepth: 3 }).map((value): unknown => JSON.parse(JSON.stringify(value)));
const written = plain.map((text) => text.trim()).filter((text) => !/[\\'"]/.test(text));

/** Arguments of the types that the tools' schemas have. */
const args = fc.record(
  {
    text: plain,
    number: fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
    whole: fc.option(fc.integer()),
    flag: fc.boolean(),
    list: fc.array(json, { maxLength: 3 }),
    object: fc.option(fc.dictionary(fc.string({ maxLength: 5 }), json, { maxKeys: 3, noNullPrototype: true })),
  },
  { requiredKeys: [], noNullPrototype: true },
);
const call: fc.Arbitrary<Call> = fc.record({ name: fc.constantFrom(...TOOLS.keys()), arguments: args });
const calls = fc.array(call, { minLength: 1, maxLength: 4 });

describe.each(TOOL_CALL_PARSERS)('%s', (name) => {
  const { write, lookalikes, onlyFirst } = WRITERS[name];
  const parser = () => callParser(CALL_FORMATS[name], TOOLS);
  const asked = (made: readonly Call[]) =>
    made.map((each) => ({ name: each.name, arguments: each.arguments, whole: true }));
  const got = (text: readonly string[]) => {
    const { calls: found, text: rest } = read(parser(), text);
    return { text: rest.trim(), calls: found.map((each) => ({ ...each, arguments: JSON.parse(each.arguments) })) };
  };

  test('any calls in any pieces are those calls, and their arguments are JSON', () => {
    fc.assert(
      fc.property(
        calls.chain((made) => fc.record({ made: fc.constant(made), cut: pieces(write(made)) })),
        ({ made, cut }) => {
          expect(got(cut)).toEqual({ text: '', calls: asked(made) });
        },
      ),
    );
  });

  test('any text around calls stays, in any pieces', () => {
    fc.assert(
      fc.property(written, written, calls, (before, after, made) => {
        const text = `${onlyFirst ? '' : before}\n${write(made)}\n${after}`;
        const whole = got([text]);
        expect(whole.calls).toEqual(asked(made));
        expect(whole.text.replace(/\s/g, '')).toBe(`${onlyFirst ? '' : before}${after}`.replace(/\s/g, ''));
        expect(got(units(text))).toEqual(whole);
      }),
    );
  });

  test('any text at all gives the same in any pieces, and nothing of it is lost where no call is', () => {
    const bits = [
      '<tool_call>',
      '</tool_call>',
      '<function=',
      'now',
      '>',
      '</function>',
      '[TOOL_CALLS]',
      'functools',
      '[ARGS]',
    ];
    const more = [
      '<tool_calls>',
      '<|python_tag|>',
      '[',
      ']',
      '{"name": "now", ',
      '"arguments": ',
      '{',
      '}',
      '"',
      ',',
      ';',
      ' ',
      '\n',
      '(',
      ')',
      '=',
      "'",
      '\\',
      'é',
      '🎉',
    ];
    const soup = fc.array(fc.constantFrom(...bits, ...more), { maxLength: 24 }).map((words) => words.join(''));
    fc.assert(
      fc.property(
        soup.chain((text) => fc.record({ text: fc.constant(text), cut: pieces(text) })),
        ({ text, cut }) => {
          const whole = read(parser(), [text]);
          expect(read(parser(), cut)).toEqual(whole);
          expect(read(parser(), units(text))).toEqual(whole);
          if (whole.calls.length === 0) expect(whole.text).toBe(text);
          for (const each of whole.calls) if (each.whole) JSON.parse(each.arguments);
        },
      ),
      { numRuns: 300 },
    );
  });

  test.each(lookalikes)('%j only looks like a call', (text) => {
    expect(read(parser(), [text])).toEqual({ text, reasoning: '', calls: [] });
    expect(read(parser(), units(text))).toEqual({ text, reasoning: '', calls: [] });
  });

  test('broken off anywhere, a call is text, or begun and not whole, or whole', () => {
    const made = [
      { name: 'get_weather', arguments: { text: 'Zürich "\\ 🎉', list: [{ a: [1, -2.5e3] }, null], flag: true } },
      { name: 'now', arguments: { flag: false, number: 1 } },
    ];
    const text = write(made);
    const full = read(parser(), [text]).calls;
    const seen = new Set<string>();
    for (let length = 0; length < text.length; length++) {
      const { calls: found } = read(parser(), [text.slice(0, length)]);
      for (const [at, each] of found.entries()) {
        expect(each.name).toBe(full[at]?.name);
        expect(full[at]?.arguments.startsWith(each.arguments)).toBe(true);
        expect(each.whole).toBe(each.arguments === full[at]?.arguments);
      }
      seen.add(`${found.filter(({ whole }) => whole).length} of ${found.length}`);
    }
    expect([...seen].sort()).toEqual(expect.arrayContaining(['0 of 0', '0 of 1', '1 of 1', '1 of 2']));
  });

  test('arguments come before their call is whole', () => {
    const text = write([{ name: 'search', arguments: { text: 'x'.repeat(1000) } }]);
    const half = parser();
    const events = half.push(text.slice(0, 600));
    expect(events[0]).toEqual({ type: 'call', name: 'search' });
    expect(events[1]).toMatchObject({ type: 'arguments' });
    expect(JSON.stringify(events[1]).length).toBeGreaterThan(400);
  });
});
