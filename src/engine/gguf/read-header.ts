import { type ModelFiles, offeredFile, readModelFile } from '../files/source.ts';
import type { ModelSpec } from '../model/spec.ts';
import { ChunkReader } from '../weights/chunk-reader.ts';
import { type PlanOptions, WeightPlan } from '../weights/weight-plan.ts';
import { type GgufContent, type GgufHeader, readGgufHeader } from './header.ts';
import { type GgufPart, joinParts } from './parts.ts';

/**
 * The header of a GGUF file from the beginning of its bytes, with the metadata whose keys `keep` wants; the rest is not asked for.
 * Throws `EngineError` code `model`.
 */
export async function ggufHeaderOf(
  chunks: AsyncGenerator<Uint8Array, void, undefined>,
  fileBytes: number,
  file: string,
  keep: (key: string) => boolean = () => true,
): Promise<GgufHeader> {
  const reader = new ChunkReader(chunks);
  try {
    return await readGgufHeader(reader, fileBytes, file, keep);
  } finally {
    await reader.close();
  }
}

/** The same of each of a model's files. */
export async function readGgufParts(
  files: ModelFiles,
  paths: readonly string[],
  keep?: (key: string) => boolean,
): Promise<GgufPart[]> {
  const parts: GgufPart[] = [];
  for (const file of paths) {
    const { size } = offeredFile<ModelFiles['offer']['files'][number]>(files.offer, file);
    parts.push({ file, header: await ggufHeaderOf(readModelFile(files, file), size, file, keep) });
  }
  return parts;
}

/** What they say together but for the vocabulary, which is the frontend's business. Throws `EngineError` code `model`. */
export async function readGgufContent(files: ModelFiles, paths: readonly string[]): Promise<GgufContent> {
  return joinParts(await readGgufParts(files, paths, (key) => !inVocabulary(key)));
}

function inVocabulary(key: string): boolean {
  return /^tokenizer\.(ggml\.(tokens|token_type|scores|merges)|chat_template)/.test(key);
}

/** Bytes of a model's weights on a GPU. Throws `EngineError` code `model` where the tensors are not those of the model. */
export function ggufWeightBytes(parts: readonly GgufPart[], spec: ModelSpec, options?: PlanOptions): number {
  const plan = new WeightPlan(spec, options);
  plan.foresee(parts.flatMap(({ header }) => header.tensors));
  for (const { file, header } of parts) plan.place(header.tensors, file);
  plan.finish(parts[0]!.file);
  return plan.bytes;
}
