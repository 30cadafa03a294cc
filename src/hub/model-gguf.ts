import { createReadStream } from 'node:fs';
import type { PoolerWish } from '../config/pooler-config.ts';
import { type GgufPart, joinParts } from '../engine/gguf/parts.ts';
import { ggufHeaderOf, ggufWeightBytes } from '../engine/gguf/read-header.ts';
import { ggufSpec } from '../engine/gguf/spec.ts';
import { ggufPooler } from '../engine/model/pooler.ts';
import type { ModelSpec } from '../engine/model/spec.ts';
import { ggufTokenizerFiles } from '../frontend/gguf-tokenizer.ts';
import type { TokenizerFiles } from '../frontend/tokenizer.ts';
import type { Pooler } from '../protocol/pooling.ts';

/** A GGUF file, wherever it is. */
export interface GgufSource {
  readonly path: string;
  readonly size: number;
  /** From its beginning, as far as they are asked for. */
  bytes(): AsyncGenerator<Uint8Array, void, undefined>;
}

/** What a hub needs to know of a GGUF model. */
export interface GgufModel {
  readonly spec: ModelSpec;
  /** null = it generates. */
  readonly pooler: Pooler | null;
  /** Of its weights on a GPU, which is not the size of the file: some types take more room there. */
  readonly weightBytes: number;
  /** Throws `Error` where its tokenizer is none that the frontend knows. */
  tokenizerFiles(): TokenizerFiles;
}

/** Reads the headers of a GGUF model's files, in the order of its parts. Throws `EngineError` code `model` for what no node could compute. */
export async function readGgufModel(files: readonly GgufSource[], wish: PoolerWish): Promise<GgufModel> {
  const parts: GgufPart[] = [];
  for (const file of files)
    parts.push({ file: file.path, header: await ggufHeaderOf(file.bytes(), file.size, file.path) });
  const whole = joinParts(parts);
  const pooler = ggufPooler(wish, whole.metadata);
  const spec = ggufSpec(whole, parts[0]!.file, pooler !== null);
  return {
    spec,
    pooler,
    weightBytes: ggufWeightBytes(parts, spec),
    tokenizerFiles: () => ggufTokenizerFiles(whole.metadata),
  };
}

/** A GGUF file of this machine. */
export function ggufOnDisk({
  path,
  size,
  location,
}: Omit<GgufSource, 'bytes'> & { readonly location: string }): GgufSource {
  return {
    path,
    size,
    async *bytes() {
      for await (const chunk of createReadStream(location, { highWaterMark: 1 << 20 })) yield chunk as Buffer;
    },
  };
}
