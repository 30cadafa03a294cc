import type { GrammarMatcher } from '../src/engine/grammar.ts';
import { jsonObjectGrammar, jsonSchemaGrammar } from '../src/frontend/grammar/json-schema.ts';
import type { Vocabulary } from '../src/node/grammar/messages.ts';
import { ThreadMatcher } from '../src/node/grammar/thread-matcher.ts';
import { systemClock } from '../src/protocol/clock.ts';
import { startGrammarThread } from '../test/support/grammar-thread.ts';
import { SCHEMAS } from '../test/support/schemas.ts';
import { RUNS } from './rates.ts';
import { median, quantile, short, table } from './table.ts';

/** Tokens of one text, at most. */
const TOKENS = 64;
const MEASURED = [
  'an object with required properties, no others',
  'nested objects and arrays',
  'strings by formats',
  'integers of a factor',
  'names by patterns',
  'a recursive list',
] as const;

/** Time from a schema to its first mask, and from a token to the next mask, over the model's vocabulary and one of the size of Qwen's. */
export async function benchMasks(vocabulary: Vocabulary, endIds: readonly number[]): Promise<string> {
  const rows: (string | number)[][] = [];
  for (const each of [vocabulary, paired(vocabulary, 151_936)]) {
    const matcher = new ThreadMatcher({
      startThread: startGrammarThread,
      vocabulary: async () => each,
      clock: systemClock,
    });
    // The thread starts, and reads the vocabulary.
    await follow(matcher, 'root ::= "a"', endIds, 1);
    const grammars = [
      ['any object', jsonObjectGrammar()],
      ...MEASURED.map((name) => [name, jsonSchemaGrammar(SCHEMAS[name])]),
    ];
    for (const [name, grammar] of grammars as [string, string][]) {
      const runs = [];
      // Grammars are kept by their text: with a line more it is compiled anew.
      for (let run = 1; run <= RUNS; run++)
        runs.push(await follow(matcher, `${grammar}${'\n'.repeat(run)}`, endIds, run));
      const masks = runs.flatMap(({ masks }) => masks);
      rows.push([
        each.ends.length,
        name,
        short(median(runs.map(({ first }) => first))),
        short(median(masks)),
        short(quantile(masks, 0.95)),
      ]);
    }
  }
  const head = [
    'tokens of the vocabulary',
    'grammar',
    'ms to compile, first mask included',
    'ms from a token to its mask',
    'in 95 of 100',
  ];
  return table(
    `Masks: in a thread of Node, texts of at most ${TOKENS} tokens drawn from what is allowed; medians of ${RUNS} runs`,
    head,
    rows,
  );
}

/** Milliseconds to the first mask, and of each mask after it, along a text that is drawn by `seed`. */
function follow(matcher: GrammarMatcher, grammar: string, stopIds: readonly number[], seed: number) {
  const random = numbers(seed);
  return new Promise<{ first: number; masks: number[] }>((resolve, reject) => {
    let asked = performance.now();
    const times: number[] = [];
    const end = () => {
      match.close();
      const [first = Number.NaN, ...masks] = times;
      resolve({ first, masks });
    };
    const match = matcher.open(
      { grammar, generated: [], stopIds },
      {
        mask: (mask) => {
          times.push(performance.now() - asked);
          const token = drawn(mask, stopIds, random);
          if (token === null || times.length > TOKENS) return queueMicrotask(end);
          asked = performance.now();
          match.accept(token);
        },
        failed: reject,
      },
    );
  });
}

/** One of the allowed ids, null where the text may end. */
function drawn(mask: Uint32Array, stopIds: readonly number[], random: () => number): number | null {
  const ids: number[] = [];
  for (const [at, word] of mask.entries())
    for (let bit = 0; word >>> bit !== 0 && bit < 32; bit++) if ((word >>> bit) & 1) ids.push(32 * at + bit);
  if (ids.some((id) => stopIds.includes(id))) return null;
  return ids[Math.floor(random() * ids.length)] ?? null;
}

/** The vocabulary, and pairs of its tokens after each other, until there are so many. */
function paired({ bytes, ends }: Vocabulary, size: number): Vocabulary {
  const piece = (id: number) => bytes.subarray(id === 0 ? 0 : ends[id - 1], ends[id]);
  const random = numbers(1);
  const any = () => piece(Math.floor(random() * ends.length));
  const pieces = Array.from({ length: size }, (_, id) => (id < ends.length ? [piece(id)] : [any(), any()]));
  const all = new Uint8Array(pieces.flat().reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  const allEnds = Uint32Array.from(pieces, (parts) => {
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return at;
  });
  return { bytes: all, ends: allEnds };
}

/** Numbers from 0 to 1, the same again for the same seed (Marsaglia, "Xorshift RNGs", 2003). */
function numbers(seed: number): () => number {
  let state = seed * 0x9e3779b1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
