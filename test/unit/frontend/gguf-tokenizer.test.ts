import { describe, expect, test } from 'vitest';
import { ggufTokenizerFiles } from '../../../src/frontend/gguf-tokenizer.ts';
import { loadChatTokenizer } from '../../../src/frontend/tokenizer.ts';
import { picoVocabulary } from '../../support/pico-gguf.ts';
import { BYTE_FALLBACK_FILES, VOCAB } from './byte-fallback-tokenizer.ts';
import { pico, reference } from './support.ts';

const [NORMAL, CONTROL, BYTE] = [1, 3, 6];

const picoMetadata = (): Map<string, unknown> =>
  new Map(Object.entries(picoVocabulary()).map(([key, v]) => [key, typeof v === 'object' && 'i32' in v ? v.i32 : v]));

const load = (metadata: ReadonlyMap<string, unknown>) => loadChatTokenizer(ggufTokenizerFiles(metadata));

describe('a gpt2 vocabulary', () => {
  const own = load(picoMetadata());
  const texts = [
    'Hello, world! 12345 times\n\n  two',
    "It's what they'LL say: ünïcödé 世界 🎉\t.",
    '<|im_start|>user\n<tool_call>{"a": 1}</tool_call><|im_end|>',
    '',
  ];

  test.each(texts)('gives the ids of tokenizer.json: %j', (text) => {
    expect(own.encode(text, true)).toEqual(pico.encode(text, true));
    expect(own.encode(text, false).map((id) => own.piece(id))).toEqual(
      pico.encode(text, false).map((id) => pico.piece(id)),
    );
  });

  test('renders chats by the template of the file', () => {
    for (const { messages, tools } of reference.filter((each) => each.messages !== undefined)) {
      const input = { messages: messages!, tools: tools ?? null, addGenerationPrompt: true, kwargs: {} };
      expect(own.render(input)).toBe(pico.render(input));
    }
  });

  test('padding is no token', () => {
    expect(own.piece(4000).bytes).toHaveLength(0);
    expect(own.piece(1)).toMatchObject({ special: true });
    expect(own.piece(3)).toMatchObject({ special: false });
  });

  test('llama 3 begins with BOS, and a word that is a token is one', () => {
    const metadata = picoMetadata().set('tokenizer.ggml.pre', 'llama-bpe').set('tokenizer.ggml.bos_token_id', 1);
    expect(load(metadata).encode('Hi', true)[0]).toBe(1);
    expect(load(metadata).encode('Hi', false)[0]).not.toBe(1);
    expect(load(metadata.set('tokenizer.ggml.add_bos_token', false)).encode('Hi', true)[0]).not.toBe(1);
    expect(load(metadata).encode('1234', false)).toEqual(
      load(picoMetadata().set('tokenizer.ggml.pre', 'gpt-4o')).encode('1234', false),
    );
  });

  test.each([
    ['tokenizer.ggml.model', 'bert', /tokenizer\.ggml\.model "bert" is not supported/],
    ['tokenizer.ggml.pre', 'chatglm-bpe', /tokenizer\.ggml\.pre "chatglm-bpe" is not supported\. Supported: .*qwen2/],
    ['tokenizer.ggml.tokens', 7, /tokenizer\.ggml\.tokens is not as expected/],
    ['tokenizer.ggml.merges', undefined, /no tokenizer\.ggml\.merges/],
  ])('%s = %j is refused', (key, value, message) => {
    const metadata = picoMetadata().set(key, value);
    if (value === undefined) metadata.delete(key);
    expect(() => load(metadata)).toThrow(message);
  });
});

describe('a llama vocabulary', () => {
  const tokens = Object.entries(VOCAB)
    .sort((a, b) => a[1] - b[1])
    .map(([token]) => token);
  // The order of BYTE_FALLBACK_FILES: "▁a" before "ab" before "▁▁".
  const score = (token: string) => ({ '\u2581a': -1, ab: -2, '\u2581\u2581': -3 })[token] ?? -100;
  const metadata = new Map<string, unknown>([
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.scores', tokens.map(score)],
    [
      'tokenizer.ggml.token_type',
      tokens.map((token, i) => (i === 0 ? 2 : i < 3 ? CONTROL : i < 259 ? BYTE : NORMAL) + 0 * token.length),
    ],
    ['tokenizer.ggml.bos_token_id', 1],
    ['tokenizer.ggml.eos_token_id', 2],
    ['tokenizer.ggml.unknown_token_id', 0],
  ]);
  const wanted = loadChatTokenizer(BYTE_FALLBACK_FILES);

  test.each(['ab c', 'a  b', 'abcab', 'é世 xyz 🎉', '', ' a<s>b'])('merges by score: %j', (text) => {
    const own = load(metadata);
    expect(own.encode(text, true)).toEqual(wanted.encode(text, true));
    expect(own.encode(text, true).map((id) => own.piece(id))).toEqual(
      wanted.encode(text, true).map((id) => wanted.piece(id)),
    );
  });

  test('without a space before the text, where the file says so', () => {
    const own = load(new Map(metadata).set('tokenizer.ggml.add_space_prefix', false));
    expect(own.encode('ab', false)).toEqual([VOCAB.ab]);
    expect(load(metadata).encode('ab', false)).not.toEqual([VOCAB.ab]);
  });

  test('without scores it is refused', () => {
    expect(() => load(new Map(metadata).set('tokenizer.ggml.scores', [1]))).toThrow(/one for each token/);
  });
});
