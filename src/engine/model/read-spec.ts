import { ggufFile } from '../files/gguf-file.ts';
import { type ModelFiles, offeredFile, readModelFile, readModelJson } from '../files/source.ts';
import { readGgufHeader } from '../gguf/header.ts';
import { ggufSpec } from '../gguf/spec.ts';
import { ChunkReader } from '../weights/chunk-reader.ts';
import { modelSpec } from './config.ts';
import type { ModelSpec } from './spec.ts';

/** The transformer that a model's files hold: by `config.json`, or by the header of a GGUF file. Throws `EngineError` code `model`. */
export async function readModelSpec(files: ModelFiles): Promise<ModelSpec> {
  const gguf = ggufFile(files);
  if (gguf === null) return modelSpec(await readModelJson(files, 'config.json'));
  const reader = new ChunkReader(readModelFile(files, gguf));
  try {
    // The vocabulary is the hub's business.
    const header = await readGgufHeader(reader, offeredFile(files.offer, gguf).size, gguf, (key) => !inVocabulary(key));
    return ggufSpec(header, gguf);
  } finally {
    await reader.close();
  }
}

function inVocabulary(key: string): boolean {
  return /^tokenizer\.(ggml\.(tokens|token_type|scores|merges)|chat_template)/.test(key);
}
