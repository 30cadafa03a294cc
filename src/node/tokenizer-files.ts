import { ggufFiles } from '../engine/files/gguf-file.ts';
import { type ModelFiles, readModelJson, readModelText } from '../engine/files/source.ts';
import { joinParts } from '../engine/gguf/parts.ts';
import { readGgufParts } from '../engine/gguf/read-header.ts';
import { ggufTokenizerFiles } from '../frontend/gguf-tokenizer.ts';
import type { TokenizerFiles } from '../frontend/tokenizer.ts';

/** What a model's tokenizer is made of: files of a folder, or the metadata of a GGUF file. Rejects with `EngineError` code `model`. */
export async function readTokenizerFiles(files: ModelFiles): Promise<TokenizerFiles> {
  const gguf = ggufFiles(files);
  if (gguf) return ggufTokenizerFiles(joinParts(await readGgufParts(files, gguf)).metadata);
  const has = (path: string) => files.offer.files.some((file) => file.path === path);
  return {
    tokenizerJson: await readModelJson(files, 'tokenizer.json'),
    tokenizerConfig: has('tokenizer_config.json') ? await readModelJson(files, 'tokenizer_config.json') : {},
    ...(has('chat_template.jinja') && { chatTemplate: await readModelText(files, 'chat_template.jinja') }),
  };
}
