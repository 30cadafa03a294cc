import * as z from 'zod';
import { fromBase64, toBase64 } from './base64.ts';

/** Most values of one embedding: the widest model that is taken. */
export const MAX_DIMENSIONS = 1 << 16;
/** The same of f32 in base64. */
export const MAX_EMBEDDING_CHARS = Math.ceil((MAX_DIMENSIONS * 4) / 3) * 4;

/** vLLM's names. LAST: what the last norm gives for a prompt's last token; MEAN: the mean of that over all of its tokens. */
export const PoolingType = z.enum(['LAST', 'MEAN']);
export type PoolingType = z.infer<typeof PoolingType>;

/** How a model turns a prompt into one vector. */
export const Pooler = z.object({
  type: PoolingType,
  /** Vectors are divided by their length (the root of the sum of their squares). */
  normalize: z.boolean(),
});
export type Pooler = z.infer<typeof Pooler>;

/** How one prompt becomes its embedding. */
export const Pooling = Pooler.extend({
  /** Values of the embedding: the first so many of the model's, cut before they are normalized. */
  dimensions: z.number().int().min(1).max(MAX_DIMENSIONS),
});
export type Pooling = z.infer<typeof Pooling>;

/** An embedding as messages carry it: base64 of f32, little-endian, as all hosts of WebGPU are. */
export function writeEmbedding(values: Float32Array): string {
  return toBase64(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
}

/** The values of such a text; null where it is anything but `dimensions` finite numbers. */
export function readEmbedding(text: string, dimensions: number): Float32Array<ArrayBuffer> | null {
  if (text.length !== Math.ceil((dimensions * 4) / 3) * 4) return null;
  const bytes = fromBase64(text);
  if (bytes?.length !== dimensions * 4) return null;
  const values = new Float32Array(bytes.buffer);
  return values.every(Number.isFinite) ? values : null;
}
