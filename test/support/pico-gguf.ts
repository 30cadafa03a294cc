import { readFileSync } from 'node:fs';
import { convertFolder } from './convert-gguf.ts';
import type { StoredType } from './ggml-types.ts';
import { type GgufParts, ggufFile, type Metadata } from './gguf-file.ts';

const PICO = new URL('../../models/quire-pico', import.meta.url).pathname;
const [NORMAL, CONTROL, USER_DEFINED, UNUSED] = [1, 3, 4, 5];

interface TokenizerJson {
  readonly added_tokens: { id: number; content: string; special: boolean }[];
  readonly model: { readonly vocab: Record<string, number>; readonly merges: [string, string][] };
}

/** quire-pico's tokenizer and chat template as llama.cpp's converter writes them, ids that no token has padded as it pads them. */
export function picoVocabulary() {
  const { added_tokens, model } = JSON.parse(readFileSync(`${PICO}/tokenizer.json`, 'utf8')) as TokenizerJson;
  const config = JSON.parse(readFileSync(`${PICO}/tokenizer_config.json`, 'utf8')) as { chat_template: string };
  const tokens = Array.from({ length: 4096 }, (_, i) => `[PAD${i}]`);
  const types = tokens.map(() => UNUSED);
  for (const [token, id] of Object.entries(model.vocab)) [tokens[id], types[id]] = [token, NORMAL];
  for (const { id, content, special } of added_tokens)
    [tokens[id], types[id]] = [content, special ? CONTROL : USER_DEFINED];
  return {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'qwen2',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': { i32: types },
    'tokenizer.ggml.merges': model.merges.map((pair) => pair.join(' ')),
    'tokenizer.ggml.eos_token_id': 2,
    'tokenizer.ggml.padding_token_id': 0,
    'tokenizer.chat_template': config.chat_template,
  } satisfies Metadata;
}

/** All of quire-pico as one GGUF file, its matrices of one type. */
export const picoGguf = (type: StoredType): Uint8Array<ArrayBuffer> => ggufFile(picoParts(type));

/** The same before it is written. */
export function picoParts(type: StoredType): GgufParts {
  const { metadata, tensors } = convertFolder(PICO, () => type);
  return { metadata: { ...metadata, ...picoVocabulary() }, tensors };
}
