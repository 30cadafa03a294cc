import type { ModelSpec } from '../model/spec.ts';
import { ChunkReader } from '../weights/chunk-reader.ts';
import { WeightPlan } from '../weights/weight-plan.ts';
import { type GgufHeader, readGgufHeader } from './header.ts';

/** The header of a GGUF file, all its metadata with it, from the beginning of its bytes; the rest is not asked for. Throws `EngineError` code `model`. */
export async function ggufHeaderOf(
  chunks: AsyncGenerator<Uint8Array, void, undefined>,
  fileBytes: number,
  file: string,
): Promise<GgufHeader> {
  const reader = new ChunkReader(chunks);
  try {
    return await readGgufHeader(reader, fileBytes, file, () => true);
  } finally {
    await reader.close();
  }
}

/** Bytes of a file's weights on a GPU. Throws `EngineError` code `model` where the tensors are not those of the model. */
export function ggufWeightBytes({ tensors }: GgufHeader, spec: ModelSpec, file: string): number {
  const plan = new WeightPlan(spec);
  plan.place(tensors, file);
  plan.finish(file);
  return plan.bytes;
}
