import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StopStrings } from '../../../src/frontend/stop-strings.ts';

interface Result {
  text: string;
  stop: string | null;
}

/** The meaning, the slow way: of all stop strings in the whole text the one that ends first; of those the longest. */
function meaning(text: string, stops: readonly string[], include: boolean): Result {
  for (let end = 1; end <= text.length; end++) {
    const found = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length)[0];
    if (found !== undefined) return { text: text.slice(0, include ? end : end - found.length), stop: found };
  }
  return { text, stop: null };
}

function run(pieces: readonly string[], stops: readonly string[], include: boolean): Result {
  const matcher = new StopStrings(stops, include);
  let text = '';
  for (const piece of pieces) {
    const match = matcher.push(piece, true);
    text += match.text;
    if (match.stop !== null) return { text, stop: match.stop };
  }
  return { text: text + matcher.flush(), stop: null };
}

// Few letters, so that stop strings occur, overlap and contain each other.
const letters = (min: number, max: number) =>
  fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: min, maxLength: max });
const stopLists = fc.array(letters(1, 5), { minLength: 1, maxLength: 4 });

describe('stop strings', () => {
  test('any text, cut in any way, gives what the whole text means', () => {
    let stopped = 0;
    fc.assert(
      fc.property(fc.array(letters(0, 4), { maxLength: 12 }), stopLists, fc.boolean(), (pieces, stops, include) => {
        const expected = meaning(pieces.join(''), stops, include);
        if (expected.stop !== null) stopped++;
        expect(run(pieces, stops, include)).toEqual(expected);
        expect(run([...pieces.join('')], stops, include)).toEqual(expected);
      }),
      { numRuns: 2000 },
    );
    expect(stopped).toBeGreaterThan(200);
  });

  test('nothing is held back that cannot begin a stop string, and everything that can', () => {
    fc.assert(
      fc.property(fc.array(letters(0, 4), { maxLength: 10 }), stopLists, (pieces, stops) => {
        const matcher = new StopStrings(stops, false);
        let shown = '';
        let given = '';
        for (const piece of pieces) {
          given += piece;
          const match = matcher.push(piece, true);
          shown += match.text;
          if (match.stop !== null) return;
          const held = Math.max(
            ...stops.flatMap((stop) =>
              [...stop].map((_, length) => (given.endsWith(stop.slice(0, length)) ? length : 0)),
            ),
          );
          expect(shown).toBe(given.slice(0, given.length - held));
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('before min_tokens a stop string is text like any other; one that ends later counts, wherever it began', () => {
    const matcher = new StopStrings(['END'], false);
    expect(matcher.push('an END, ', false)).toEqual({ text: 'an END, ', stop: null });
    expect(matcher.push('the E', false)).toEqual({ text: 'the ', stop: null });
    expect(matcher.push('ND.', true)).toEqual({ text: '', stop: 'END' });
  });

  test('held-back text comes once', () => {
    const matcher = new StopStrings(['###'], false);
    expect(matcher.push('a##', true).text).toBe('a');
    expect(matcher.flush()).toBe('##');
    expect(matcher.flush()).toBe('');
  });

  test('characters outside of the basic plane are never cut', () => {
    expect(run(['🎉', '🎈', '🎊'], ['🎊'], false)).toEqual({ text: '🎉🎈', stop: '🎊' });
    expect(new StopStrings(['🎊'], false).push('🎉', true).text).toBe('🎉');
  });
});
