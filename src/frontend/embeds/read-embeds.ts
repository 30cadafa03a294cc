import { fromBase64 } from '../../protocol/base64.ts';
import { type EmbedsDtype, MAX_EMBEDS_BYTES } from '../../protocol/prompt-embeds.ts';
import { ApiError, badRequest } from '../errors.ts';
import { TensorFileError } from './file-error.ts';
import { DTYPE_BYTES, readSavedTensor, type SavedTensor } from './saved-tensor.ts';

/** Embeddings of a prompt, one row a token. */
export interface Embeds {
  readonly dtype: EmbedsDtype;
  readonly tokens: number;
  /** [tokens][hidden], little-endian. */
  readonly bytes: Uint8Array;
}

/** Throws `ApiError` 413 when the texts of base64 hold more than `MAX_EMBEDS_BYTES` together; looks at their lengths only. */
export function checkEmbedsSize(texts: readonly string[]): void {
  const bytes = texts.reduce((sum, text) => sum + decodedBytes(text), 0);
  if (bytes <= MAX_EMBEDS_BYTES) return;
  throw new ApiError(
    413,
    'invalid_request_error',
    `'prompt_embeds' holds ${bytes} bytes, and one request may bring ${MAX_EMBEDS_BYTES}. Send fewer tokens, or save them as float16 or bfloat16.`,
    { code: 'request_too_large', param: 'prompt_embeds' },
  );
}

/**
 * The embeddings in one text of `prompt_embeds`: base64 of what `torch.save` wrote for a tensor [tokens, hidden] or [1, tokens, hidden] of
 * float32, float16 or bfloat16. Its size was checked. `field` names it in errors. Throws `ApiError` 400.
 */
export function readEmbeds(text: string, field: string, hidden: number): Embeds {
  try {
    return rowsOf(readSavedTensor(decode(text)), hidden);
  } catch (error) {
    if (error instanceof TensorFileError) throw badRequest(`'${field}' cannot be read: ${error.message}.`, field);
    throw error;
  }
}

function decodedBytes(text: string): number {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  return Math.max(0, Math.ceil((text.length * 3) / 4) - padding);
}

function decode(text: string): Uint8Array {
  if (text.length === 0) throw new TensorFileError('it is empty');
  const bytes = fromBase64(text);
  if (bytes !== null) return bytes;
  throw new TensorFileError('it is not base64 (RFC 4648, section 4, with padding and without line breaks)');
}

function rowsOf(tensor: SavedTensor, hidden: number): Embeds {
  const { dtype, shape, strides, offset, storage } = tensor;
  const flat = shape.length === 3 && shape[0] === 1 ? 1 : 0;
  const [tokens, width, ...more] = shape.slice(flat);
  if (tokens === undefined || width === undefined || more.length > 0) {
    throw new TensorFileError(
      `its shape is [${shape.join(', ')}], and [tokens, ${hidden}] or [1, tokens, ${hidden}] is read`,
    );
  }
  if (width !== hidden) {
    throw new TensorFileError(`its rows have ${width} values, and the embeddings of this model have ${hidden}`);
  }
  if (tokens === 0) throw new TensorFileError('it has no tokens: send at least one');
  const size = DTYPE_BYTES[dtype];
  const count = tokens * hidden;
  // An expanded tensor has more values than its file.
  if (count * size > MAX_EMBEDS_BYTES) {
    throw new TensorFileError(
      `its ${tokens} tokens are ${count * size} bytes, and one request may bring ${MAX_EMBEDS_BYTES}`,
    );
  }
  const [rowStride = 0, columnStride = 0] = strides.slice(flat);
  const bytes = new Uint8Array(count * size);
  const from = new DataView(storage.buffer, storage.byteOffset, storage.byteLength);
  const to = new DataView(bytes.buffer);
  for (let token = 0; token < tokens; token++) {
    for (let i = 0; i < hidden; i++) {
      const source = (offset + token * rowStride + i * columnStride) * size;
      const target = (token * hidden + i) * size;
      const bits = size === 4 ? from.getUint32(source, true) : from.getUint16(source, true);
      if (!finiteBits(bits, dtype))
        throw new TensorFileError(`value ${i} of token ${token} is not finite (NaN or infinity)`);
      if (size === 4) to.setUint32(target, bits, true);
      else to.setUint16(target, bits, true);
    }
  }
  return { dtype, tokens, bytes };
}

/** Whether the exponent of a float's bits is not all ones (IEEE 754). */
function finiteBits(bits: number, dtype: EmbedsDtype): boolean {
  switch (dtype) {
    case 'f32':
      return ((bits >>> 23) & 0xff) !== 0xff;
    case 'bf16':
      return ((bits >>> 7) & 0xff) !== 0xff;
    case 'f16':
      return ((bits >>> 10) & 0x1f) !== 0x1f;
  }
}
