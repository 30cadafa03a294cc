import { readFileSync } from 'node:fs';
import path from 'node:path';
import { PREFIX_BYTES, parseHeader } from '../../src/engine/weights/safetensors.ts';
import type { EmbedsDtype } from '../../src/protocol/prompt-embeds.ts';
import { widened } from './float-bytes.ts';

const DTYPES: Readonly<Record<string, EmbedsDtype>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** Embeddings of tokens as a model's own file has them, [ids.length][hidden]. */
export function embeddingRows(folder: string, ids: readonly number[]): { hidden: number; rows: number[] } {
  const file = readFileSync(path.join(folder, 'model.safetensors'));
  const length = Number(file.readBigUInt64LE(0));
  const header = file.subarray(PREFIX_BYTES, PREFIX_BYTES + length);
  const table = parseHeader(header, file.length, 'model.safetensors').find(
    ({ name }) => name === 'model.embed_tokens.weight',
  );
  const dtype = DTYPES[table?.dtype ?? ''];
  if (table === undefined || dtype === undefined) throw new Error(`${folder} has no table of embeddings`);
  const [, hidden = 0] = table.shape;
  const width = hidden * (dtype === 'f32' ? 4 : 2);
  return {
    hidden,
    rows: ids.flatMap((id) => widened(file.subarray(table.begin + id * width, table.begin + (id + 1) * width), dtype)),
  };
}

/** The numbers in another type, little-endian; bf16 by cutting, which is exact for numbers that came from it. */
export function floatBytes(numbers: readonly number[], dtype: 'f32' | 'bf16'): Uint8Array {
  const words = new Uint32Array(Float32Array.from(numbers).buffer);
  if (dtype === 'f32') return new Uint8Array(words.buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}
