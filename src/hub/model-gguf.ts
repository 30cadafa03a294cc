import { createReadStream } from 'node:fs';
import { ggufHeaderOf, ggufWeightBytes } from '../engine/gguf/read-header.ts';
import { ggufSpec } from '../engine/gguf/spec.ts';
import type { ModelSpec } from '../engine/model/spec.ts';
import { ggufTokenizerFiles } from '../frontend/gguf-tokenizer.ts';
import type { TokenizerFiles } from '../frontend/tokenizer.ts';

/** What a hub needs to know of a GGUF file. */
export interface GgufModel {
  readonly spec: ModelSpec;
  /** Of its weights on a GPU, which is not the size of the file: some types take more room there. */
  readonly weightBytes: number;
  /** Throws `Error` where its tokenizer is none that the frontend knows. */
  tokenizerFiles(): TokenizerFiles;
}

/** Reads the header of a GGUF file. Throws `EngineError` code `model` for what no node could compute. */
export async function readGgufModel(location: string, size: number, path: string): Promise<GgufModel> {
  const header = await ggufHeaderOf(bytesOf(location), size, path);
  const spec = ggufSpec(header, path);
  return {
    spec,
    weightBytes: ggufWeightBytes(header, spec, path),
    tokenizerFiles: () => ggufTokenizerFiles(header.metadata),
  };
}

async function* bytesOf(location: string): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of createReadStream(location, { highWaterMark: 1 << 20 })) yield chunk as Buffer;
}
