import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { generationDefaults } from '../../../src/protocol/generation-config.ts';

test('the fields that vLLM reads, under their names in SamplingParams', () => {
  const all = { temperature: 0.6, top_p: 0.9, top_k: 20, min_p: 0.05, repetition_penalty: 1.1, max_new_tokens: 100 };
  expect(generationDefaults({ ...all, eos_token_id: 2, no_repeat_ngram_size: 3 })).toEqual({
    temperature: 0.6,
    topP: 0.9,
    topK: 20,
    minP: 0.05,
    repetitionPenalty: 1.1,
    maxTokens: 100,
  });
});

test('the embedded model', () => {
  const pico = new URL('../../../models/quire-pico/generation_config.json', import.meta.url);
  expect(generationDefaults(JSON.parse(readFileSync(pico, 'utf8')))).toEqual({
    temperature: 0.7,
    topP: 0.95,
    topK: 40,
  });
});

test('nothing said, nothing set; do_sample says nothing', () => {
  expect(generationDefaults(undefined)).toEqual({});
  expect(generationDefaults({ temperature: null, do_sample: false })).toEqual({});
});

test('top_k -1 is off, temperature 0 is greedy', () => {
  expect(generationDefaults({ top_k: -1, temperature: 0 })).toEqual({ topK: 0, temperature: 0 });
});

test('nonsense is refused by field', () => {
  expect(() => generationDefaults({ top_p: 2 })).toThrow(/generation_config\.json: top_p/);
  expect(() => generationDefaults([])).toThrow(/generation_config\.json/);
});
