import { ggufFiles } from '../files/gguf-file.ts';
import { type ModelFiles, readModelJson } from '../files/source.ts';
import { readGgufContent } from '../gguf/read-header.ts';
import { ggufSpec } from '../gguf/spec.ts';
import { modelSpec } from './config.ts';
import type { ModelSpec } from './spec.ts';

/** The transformer that a model's files hold: by `config.json`, or by the headers of GGUF files. pools: it shall give embeddings. Throws `EngineError` code `model`. */
export async function readModelSpec(files: ModelFiles, pools = false): Promise<ModelSpec> {
  const gguf = ggufFiles(files);
  if (gguf === null) return modelSpec(await readModelJson(files, 'config.json'), undefined, pools);
  return ggufSpec(await readGgufContent(files, gguf), gguf[0], pools);
}
