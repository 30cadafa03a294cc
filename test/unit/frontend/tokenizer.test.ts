import { describe, expect, test } from 'vitest';
import type { TemplateInput } from '../../../src/frontend/chat-template.ts';
import { ApiError } from '../../../src/frontend/errors.ts';
import { loadChatTokenizer } from '../../../src/frontend/tokenizer.ts';
import { BYTE_FALLBACK_FILES, byteId, idOf } from './byte-fallback-tokenizer.ts';
import { PICO_FILES, pico, reference } from './support.ts';

const chat = (change: Partial<TemplateInput> = {}): TemplateInput => ({
  messages: [{ role: 'user', content: 'Hi' }],
  tools: null,
  addGenerationPrompt: true,
  kwargs: {},
  ...change,
});

function apiError(run: () => unknown): ApiError {
  try {
    run();
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  throw new Error('did not throw');
}

describe('quire-pico, against the reference implementation', () => {
  test.each(
    reference.map((entry) => [entry.prompt ?? String(entry.messages?.at(-1)?.content).slice(0, 40), entry] as const),
  )('prompt ids of "%s"', (_, entry) => {
    const ids =
      entry.messages === undefined
        ? pico.encode(entry.prompt ?? '', true)
        : pico.encode(
            pico.render(
              chat({
                messages: entry.messages,
                tools: entry.tools ?? null,
                kwargs: entry.enable_thinking === undefined ? {} : { enable_thinking: entry.enable_thinking },
              }),
            ),
            false,
          );
    expect(ids).toEqual(entry.input_ids);
  });

  test('a special token written in a text becomes its id, as in HF', () => {
    expect(pico.encode('a<|im_end|>b', false).filter((id) => id === 2)).toHaveLength(1);
  });

  test('ids beyond the vocabulary add nothing', () => {
    expect(pico.piece(4095).bytes).toHaveLength(0);
  });
});

describe('chat templates', () => {
  test('a template that does not know `developer` gets `system`; one that does keeps it', () => {
    const developer = chat({ messages: [{ role: 'developer', content: 'Be brief.' }] });
    expect(pico.render(developer)).toContain('<|im_start|>system\nBe brief.');
    const own = loadChatTokenizer({ ...PICO_FILES, chatTemplate: '{# developer #}{{ messages[0].role }}' });
    expect(own.render(developer)).toBe('developer');
  });

  test('named templates: `tool_use` where the request has tools; special tokens by name, in both spellings', () => {
    const tokenizer = loadChatTokenizer(BYTE_FALLBACK_FILES);
    expect(tokenizer.render(chat())).toBe('<s>Hi</s>');
    expect(tokenizer.render(chat({ tools: [{}, {}] }))).toBe('<s>tools: 2');
  });

  test('the separate template wins over the configuration', () => {
    expect(loadChatTokenizer({ ...PICO_FILES, chatTemplate: 'x' }).render(chat())).toBe('x');
  });

  test('what the template refuses is a 400 with its words', () => {
    const strict = loadChatTokenizer({ ...PICO_FILES, chatTemplate: "{{ raise_exception('no system role') }}" });
    const error = apiError(() => strict.render(chat()));
    expect(error.status).toBe(400);
    expect(error.message).toContain('no system role');
  });

  test.each(['messages', 'tools', 'add_generation_prompt', 'eos_token', 'raise_exception'])(
    'chat_template_kwargs may not set %s',
    (name) => {
      const error = apiError(() => pico.render(chat({ kwargs: { [name]: 'x' } })));
      expect(error).toMatchObject({ status: 400, param: 'chat_template_kwargs' });
      expect(error.message).toContain(name);
    },
  );

  test('kwargs nested too deep for the template are a 400, not a crash', () => {
    let deep: unknown = 1;
    for (let i = 0; i < 100_000; i++) deep = [deep];
    expect(apiError(() => pico.render(chat({ kwargs: { deep } }))).status).toBe(400);
  });

  test('a model without a template cannot chat, and says what to do', () => {
    const plain = loadChatTokenizer({ ...PICO_FILES, tokenizerConfig: {} });
    expect(apiError(() => plain.render(chat())).message).toContain('/v1/completions');
  });
});

describe('SentencePiece with byte fallback', () => {
  const tokenizer = loadChatTokenizer(BYTE_FALLBACK_FILES);

  test('BOS comes with special tokens only', () => {
    expect(tokenizer.encode('ab', true)[0]).toBe(1);
    expect(tokenizer.encode('ab', false)).not.toContain(1);
  });

  test('an unknown character becomes its bytes', () => {
    expect(tokenizer.encode('界', false).slice(-3)).toEqual([byteId(0xe7), byteId(0x95), byteId(0x8c)]);
  });

  test('pieces: bytes, spaces, text, specials', () => {
    expect([...tokenizer.piece(byteId(0xe7)).bytes]).toEqual([0xe7]);
    expect([...tokenizer.piece(idOf('\u2581a')).bytes]).toEqual([0x20, 0x61]);
    expect([...tokenizer.piece(idOf('é')).bytes]).toEqual([0xc3, 0xa9]);
    expect(tokenizer.piece(2).special).toBe(true);
  });
});

describe('files that are no tokenizer are refused by name', () => {
  const { tokenizerJson, tokenizerConfig } = BYTE_FALLBACK_FILES;
  test.each([
    ['tokenizer.json', { tokenizerJson: null, tokenizerConfig }],
    ['tokenizer.json', { tokenizerJson: { model: { type: 'Nonsense' } }, tokenizerConfig }],
    ['tokenizer_config.json', { tokenizerJson, tokenizerConfig: { chat_template: 5 } }],
    ['chat template', { tokenizerJson, tokenizerConfig, chatTemplate: '{% if %}' }],
    ['none named "default"', { tokenizerJson, tokenizerConfig: { chat_template: [{ name: 'rag', template: 'x' }] } }],
    ['WordPiece', { tokenizerJson: { ...tokenizerJson, decoder: { type: 'WordPiece' } }, tokenizerConfig }],
  ])('%s', (word, files) => {
    expect(() => loadChatTokenizer(files)).toThrow(word);
  });
});
