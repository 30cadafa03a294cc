import { Tokenizer } from '@huggingface/tokenizers';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Detokenizer } from '../../../src/frontend/detokenizer.ts';
import { type ChatTokenizer, loadChatTokenizer } from '../../../src/frontend/tokenizer.ts';
import { BYTE_FALLBACK_FILES, byteId, idOf, VOCAB } from './byte-fallback-tokenizer.ts';
import { PICO_FILES, pico, reference } from './support.ts';

const hfPico = new Tokenizer(PICO_FILES.tokenizerJson as object, PICO_FILES.tokenizerConfig as object);
const PICO_VOCAB = hfPico.get_vocab().size;

/** All deltas, the flush last. */
function deltas(tokenizer: ChatTokenizer, ids: readonly number[], skipSpecial: boolean): string[] {
  const detokenizer = new Detokenizer(tokenizer, skipSpecial);
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()];
}

/** The library's own decoding of all ids at once; it cannot take ids that it does not know, which add nothing. */
function decodeAtOnce(hf: Tokenizer, ids: readonly number[], skipSpecial: boolean): string {
  const known = ids.filter((id) => hf.id_to_token(id) !== undefined);
  if (known.length === 0) return '';
  return hf.decode(known, { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: false });
}

const isWellFormed = (text: string) => !/\p{Surrogate}/u.test(text);

describe('byte-level (quire-pico)', () => {
  test.each(reference.map((entry) => [entry.text.slice(0, 40), entry] as const))(
    'the reference text "%s"',
    (_, entry) => {
      expect(deltas(pico, entry.output_ids, false).join('')).toBe(entry.text);
      expect(deltas(pico, entry.output_ids, true).join('')).toBe(entry.text.replace('<|im_end|>', ''));
    },
  );

  test('any ids: the deltas are the decoding of all ids, and none ends in half a character', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: PICO_VOCAB + 100 }), { maxLength: 60 }),
        fc.boolean(),
        (ids, skip) => {
          const parts = deltas(pico, ids, skip);
          expect(parts.join('')).toBe(decodeAtOnce(hfPico, ids, skip));
          expect(parts.every(isWellFormed)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  // Single bytes alone make characters that span tokens, and broken ones, much more often.
  test('any bytes', () => {
    const single = [...Array(PICO_VOCAB).keys()].filter((id) => pico.piece(id).bytes.length === 1);
    expect(single.length).toBeGreaterThanOrEqual(256);
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...single, 2, 3), { maxLength: 40 }), fc.boolean(), (ids, skip) => {
        expect(deltas(pico, ids, skip).join('')).toBe(decodeAtOnce(hfPico, ids, skip));
      }),
      { numRuns: 500 },
    );
  });

  test('any text comes back, with no U+FFFD on the way', () => {
    const real = fc.constantFrom(
      '👩‍👩‍👧‍👦 family',
      '世界，你好！',
      'naïve café',
      '🇳🇴🎉',
      'שלום',
      '\u{feff}bom',
      'a\r\n\tb',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(real, fc.string({ unit: 'grapheme' })), { maxLength: 5 }), (words) => {
        const text = words.join(' ').replaceAll('\ufffd', '');
        const parts = deltas(pico, pico.encode(text, false), false);
        expect(parts.join('')).toBe(text);
        expect(parts.some((part) => part.includes('\ufffd'))).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  test('a character left unfinished ends as U+FFFD, at the flush and not before', () => {
    const party = pico.encode('🎉', false);
    expect(party.length).toBeGreaterThan(1);
    const parts = deltas(pico, party.slice(0, -1), true);
    expect(parts.slice(0, -1).join('')).toBe('');
    expect(parts.at(-1)).toBe('\ufffd');
  });

  // Decoding everything anew at each token would not end within the test's time.
  test('a hundred thousand tokens that never end a clean character', () => {
    const lone = pico.encode('🎉', false)[0] as number;
    expect(deltas(pico, Array<number>(100_000).fill(lone), true).join('')).toBe('\ufffd'.repeat(100_000));
  });
});

describe('SentencePiece with byte fallback', () => {
  const tokenizer = loadChatTokenizer(BYTE_FALLBACK_FILES);
  const { tokenizerJson, tokenizerConfig } = BYTE_FALLBACK_FILES;
  const hf = new Tokenizer(tokenizerJson, { ...tokenizerConfig, chat_template: '' } as object);

  test('any ids: what they add to a text that came before', () => {
    // The library drops U+FEFF where a run of bytes begins with it; HF's own decoder keeps it, as we do.
    const ids = fc.array(fc.integer({ min: 3, max: Object.keys(VOCAB).length - 1 }), { maxLength: 40 });
    fc.assert(
      fc.property(
        ids.filter((list) => !list.includes(byteId(0xef))),
        (list) => {
          const before = idOf('a');
          expect(`a${deltas(tokenizer, list, false).join('')}`).toBe(decodeAtOnce(hf, [before, ...list], false));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('the first space of an answer is real', () => {
    expect(deltas(tokenizer, [idOf('\u2581a'), idOf('b')], true).join('')).toBe(' ab');
  });
});
