import { fromBase64 } from '../protocol/base64.ts';
import type { GenerateRequest } from '../protocol/generate.ts';
import { type EmbedsDtype, NO_ID } from '../protocol/prompt-embeds.ts';
import { EngineError } from './api.ts';
import { widen } from './weights/float16.ts';

const VALUE_BYTES: Readonly<Record<EmbedsDtype, number>> = { f32: 4, f16: 2, bf16: 2 };

/**
 * The embeddings that a request brings, [prompt.length][hidden] in f32; null where it has token ids. Throws `EngineError` code
 * `invalid_request` when they are not as many as the prompt is long, or the prompt has ids beside them.
 */
export function embedsOf({ prompt, embeds }: GenerateRequest, hidden: number): Float32Array<ArrayBuffer> | null {
  if (embeds === undefined) return null;
  const refuse = (why: string): never => {
    throw new EngineError('invalid_request', `The prompt's embeddings cannot be used: ${why}.`);
  };
  if (prompt.some((id) => id !== NO_ID)) refuse('there are token ids beside them');
  const bytes = fromBase64(embeds.data) ?? refuse('they are not base64');
  const wanted = prompt.length * hidden * VALUE_BYTES[embeds.dtype];
  if (bytes.length !== wanted) {
    refuse(
      `they are ${bytes.length} bytes, and ${prompt.length} tokens of ${hidden} values in ${embeds.dtype} are ${wanted}`,
    );
  }
  switch (embeds.dtype) {
    // All hosts of WebGPU are little-endian.
    case 'f32':
      return new Float32Array(bytes.buffer);
    case 'f16':
      return widen(bytes, 'F16');
    case 'bf16':
      return widen(bytes, 'BF16');
  }
}

/** KV goes from node to node by the hashes of its ids: throws `EngineError` code `invalid_request` for embeddings. */
export function requireIds({ embeds }: GenerateRequest): void {
  if (embeds === undefined) return;
  throw new EngineError(
    'invalid_request',
    'A prompt of embeddings is computed where it is answered. Send it as generate.',
  );
}
