import * as z from 'zod';
import { checked, modelError } from '../model-error.ts';
import { type FloatType, isFloatType, TENSOR_TYPES, type TensorInfo, type TensorType } from './tensor-types.ts';

const SUPPORTED = Object.keys(TENSOR_TYPES).filter((type) => isFloatType(type as TensorType));

/**
 * Most bytes of a header. Upstream allows 100 MB; the largest published shards stay below 10 MB, and a page must hold the
 * header as text and as objects.
 */
export const MAX_HEADER_BYTES = 32 * 1024 * 1024;
/** Length of the little-endian u64 before the header. */
export const PREFIX_BYTES = 8;
const MAX_NAME_LENGTH = 512;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const Entry = z.object({
  dtype: z.string().max(32),
  shape: z.array(count).max(8),
  data_offsets: z.tuple([count, count]),
});
const Header = z.record(z.string(), z.unknown());

/**
 * Length of the header from the file's first eight bytes (fewer when it has fewer).
 * Throws `EngineError` code `model` when it is out of bounds for a file of `fileBytes` bytes.
 */
export function headerLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (prefix.byteLength < PREFIX_BYTES)
    throw modelError(file, `has only ${prefix.byteLength} bytes. Is it safetensors?`);
  const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length < 2n || length > BigInt(MAX_HEADER_BYTES) || length > BigInt(fileBytes - PREFIX_BYTES)) {
    throw modelError(
      file,
      `header of ${length} bytes, in a file of ${fileBytes}; at most ${MAX_HEADER_BYTES} are read. Is it safetensors?`,
    );
  }
  return Number(length);
}

/**
 * Tensors of a safetensors file in the order of their bytes, from the header's bytes (without the length before it).
 * As upstream (`safetensors/src/tensor.rs`) the data must be covered by the tensors without hole or overlap.
 * Throws `EngineError` code `model` that names the tensor that is wrong.
 */
export function parseHeader(bytes: Uint8Array, fileBytes: number, file: string): TensorInfo[] {
  const dataStart = PREFIX_BYTES + bytes.byteLength;
  const tensors = Object.entries(checked(Header, parseJson(bytes, file), file))
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => tensorInfo(name, entry, dataStart, file))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = dataStart;
  for (const tensor of tensors) {
    if (tensor.begin !== at) {
      const what = tensor.begin < at ? 'overlaps the tensor before it' : 'leaves a hole before it';
      throw modelError(file, `tensor ${tensor.name} ${what} (byte ${tensor.begin}, expected ${at}).`);
    }
    at = tensor.end;
  }
  if (at !== fileBytes)
    throw modelError(file, `its tensors end at byte ${at}, the file at ${fileBytes}. Is it cut short?`);
  return tensors;
}

function parseJson(bytes: Uint8Array, file: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw modelError(file, 'its header is not JSON in UTF-8. Is it safetensors?', { cause });
  }
}

function tensorInfo(name: string, raw: unknown, dataStart: number, file: string): TensorInfo {
  if (name.length > MAX_NAME_LENGTH) throw modelError(file, `a tensor's name has ${name.length} characters.`);
  const where = `${file}: tensor ${name}`;
  const { dtype, shape, data_offsets } = checked(Entry, raw, where);
  if (!isFloat(dtype)) {
    throw modelError(where, `dtype ${dtype} is not supported. Supported: ${SUPPORTED.join(', ')}.`);
  }
  const [begin, end] = data_offsets;
  const bytes = shape.reduce((product, n) => product * BigInt(n), BigInt(TENSOR_TYPES[dtype].bytes));
  if (BigInt(end) - BigInt(begin) !== bytes) {
    throw modelError(where, `${dtype} [${shape}] takes ${bytes} bytes, its offsets say ${begin} to ${end}.`);
  }
  if (dataStart + end > Number.MAX_SAFE_INTEGER) throw modelError(where, `ends at byte ${end}, beyond any file.`);
  return { name, dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

function isFloat(dtype: string): dtype is FloatType {
  return SUPPORTED.includes(dtype);
}

const Index = z.object({ weight_map: z.record(z.string().max(MAX_NAME_LENGTH), z.string().max(256)) });

/**
 * Names of the files of a sharded checkpoint, from its `model.safetensors.index.json`, each once, in order.
 * Throws `EngineError` code `model` when one is no plain file name.
 */
export function shardNames(index: unknown, file: string): string[] {
  const shards = [...new Set(Object.values(checked(Index, index, file).weight_map))].sort();
  const odd = shards.find((name) => !/^[\w-][\w.-]*\.safetensors$/.test(name));
  if (odd !== undefined) throw modelError(file, `"${odd}" is no plain name of a safetensors file.`);
  return shards;
}
