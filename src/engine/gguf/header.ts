import { modelError } from '../model-error.ts';
import type { ChunkReader } from '../weights/chunk-reader.ts';
import { TENSOR_TYPES, type TensorInfo, type TensorType } from '../weights/tensor-types.ts';
import { type GgufMetadata, type GgufScalar, type GgufValue, ggmlTypeName } from './types.ts';

/** Most bytes before the tensors' data: the largest published vocabularies with their merges take a fifth of it. */
export const MAX_HEADER_BYTES = 64 * 1024 * 1024;
const MAX_ENTRIES = 4096;
const MAX_TENSORS = 65_536;
const MAX_NAME_BYTES = 512;
const MAX_DIMENSIONS = 4;
const MAX_ALIGNMENT = 1 << 20;
const DEFAULT_ALIGNMENT = 32;
const ALIGNMENT = 'general.alignment';

export interface GgufHeader {
  readonly metadata: GgufMetadata;
  /** In the order of their bytes. */
  readonly tensors: readonly TensorInfo[];
  /** Bytes that were read: what the stream stands at. */
  readonly bytes: number;
}

/** What of a header says which model it is. */
export type GgufContent = Pick<GgufHeader, 'metadata' | 'tensors'>;

/**
 * Reads the header of a GGUF file of `fileBytes` bytes from the beginning of its stream (format: ggml's `docs/gguf.md`, versions 2 and
 * 3, little-endian). Metadata whose key `keep` refuses are passed over and never held. The tensors' data must follow each other
 * without hole or overlap, as ggml's own reader asks.
 * Throws `EngineError` code `model` that names what is wrong: bounds, types, tensors that this engine does not read.
 */
export async function readGgufHeader(
  reader: ChunkReader,
  fileBytes: number,
  file: string,
  keep: (key: string) => boolean,
): Promise<GgufHeader> {
  const parsing = parseHeader(fileBytes, file, keep);
  let left = Math.min(fileBytes, MAX_HEADER_BYTES);
  let step = parsing.next(new Uint8Array(0));
  while (!step.done) {
    const wanted = step.value;
    if (wanted > left) {
      const why =
        wanted > fileBytes - (Math.min(fileBytes, MAX_HEADER_BYTES) - left) ? 'the file ends' : 'its bounds end';
      throw modelError(
        file,
        `a part of ${wanted} bytes of the header goes on behind where ${why} (at most ${MAX_HEADER_BYTES} bytes of header are read). Is it cut short?`,
      );
    }
    left -= wanted;
    step = parsing.next(reader.now(wanted) ?? (await reader.exactly(wanted)));
  }
  return step.value;
}

/** Yields how many bytes it needs next and is given them: the format's grammar, free of I/O. */
type Parsing<T> = Generator<number, T, Uint8Array>;

function* parseHeader(fileBytes: number, file: string, keep: (key: string) => boolean): Parsing<GgufHeader> {
  const from = new Fields(file);
  const magic = new TextDecoder('latin1').decode(yield* from.take(4));
  if (magic !== 'GGUF') throw modelError(file, 'does not begin with "GGUF". Is it a GGUF file?');
  const version = yield* from.u32();
  if (version !== 2 && version !== 3) {
    const what = version > 0xffff ? 'is big-endian' : `has version ${version}`;
    throw modelError(file, `${what}; versions 2 and 3, little-endian, are read. Convert it anew.`);
  }
  const tensorCount = yield* from.count('tensors', MAX_TENSORS);
  const entries = yield* from.count('metadata entries', MAX_ENTRIES);
  const metadata = new Map<string, GgufValue>();
  const keys = new Set<string>();
  let alignment = DEFAULT_ALIGNMENT;
  for (let i = 0; i < entries; i++) {
    const key = yield* from.string(MAX_NAME_BYTES);
    if (keys.has(key)) throw modelError(file, `its metadata have ${key} twice.`);
    keys.add(key);
    const value = yield* from.value(key, keep(key) || key === ALIGNMENT);
    if (key === ALIGNMENT) alignment = checkedAlignment(value, file);
    if (keep(key) && value !== null) metadata.set(key, value);
  }
  const infos: Unplaced[] = [];
  for (let i = 0; i < tensorCount; i++) infos.push(yield* tensorInfo(from, file));
  const dataStart = Math.ceil(from.bytes / alignment) * alignment;
  return { metadata, tensors: placed(infos, dataStart, alignment, fileBytes, file), bytes: from.bytes };
}

type Unplaced = Omit<TensorInfo, 'begin' | 'end'> & { readonly offset: number; readonly bytes: number };

function* tensorInfo(from: Fields, file: string): Parsing<Unplaced> {
  const name = yield* from.string(MAX_NAME_BYTES);
  const where = `${file}: tensor ${name}`;
  const dimensions = yield* from.u32();
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) throw modelError(where, `has ${dimensions} dimensions.`);
  const shape: number[] = [];
  // The fastest dimension comes first in the file.
  for (let i = 0; i < dimensions; i++)
    shape.unshift(yield* from.count('numbers in a dimension', Number.MAX_SAFE_INTEGER));
  const type = ggmlTypeName(yield* from.u32());
  const offset = yield* from.count('bytes before it', Number.MAX_SAFE_INTEGER);
  if (!isTensorType(type)) {
    const known = Object.keys(TENSOR_TYPES).join(', ');
    throw modelError(
      where,
      `is stored as ${type}, which is not supported. Supported: ${known}. Take another quantization of this model.`,
    );
  }
  const { values, bytes } = TENSOR_TYPES[type];
  if (shape.at(-1)! % values !== 0)
    throw modelError(where, `has rows of ${shape.at(-1)} numbers, which are no whole blocks of ${values} (${type}).`);
  const all = shape.reduce((product, n) => product * BigInt(n), BigInt(bytes)) / BigInt(values);
  if (all > BigInt(Number.MAX_SAFE_INTEGER)) throw modelError(where, `takes ${all} bytes, more than any file has.`);
  return { name, dtype: type, shape, offset, bytes: Number(all) };
}

function placed(
  infos: readonly Unplaced[],
  start: number,
  alignment: number,
  fileBytes: number,
  file: string,
): TensorInfo[] {
  const names = new Set<string>();
  let end = start;
  let expected = 0;
  const tensors = [...infos]
    .sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
    .map(({ name, dtype, shape, offset, bytes }): TensorInfo => {
      if (names.has(name)) throw modelError(file, `has tensor ${name} twice.`);
      names.add(name);
      if (offset !== expected) {
        const what = offset < expected ? 'overlaps the tensor before it' : 'leaves a hole before it';
        throw modelError(file, `tensor ${name} ${what} (at byte ${offset} of the data, expected ${expected}).`);
      }
      const begin = start + offset;
      end = begin + bytes;
      expected = Math.ceil((offset + bytes) / alignment) * alignment;
      return { name, dtype, shape, begin, end };
    });
  if (end > fileBytes || fileBytes - end >= alignment)
    throw modelError(file, `its tensors end at byte ${end}, the file at ${fileBytes}. Is it cut short?`);
  return tensors;
}

function isTensorType(type: string): type is TensorType {
  return Object.hasOwn(TENSOR_TYPES, type);
}

function checkedAlignment(value: GgufValue | null, file: string): number {
  const good = typeof value === 'number' && value >= 8 && value <= MAX_ALIGNMENT && Number.isInteger(Math.log2(value));
  if (good) return value;
  throw modelError(
    file,
    `${ALIGNMENT} is ${String(value).slice(0, 50)}; a power of two from 8 to ${MAX_ALIGNMENT} is expected.`,
  );
}

const ARRAY = 9;
const STRING = 8;
/** Bytes of a metadata value by its type number (`enum gguf_metadata_value_type`), and how it is read. */
const SCALARS: Readonly<Record<number, { bytes: number; read: (view: DataView) => number | boolean | bigint }>> = {
  0: { bytes: 1, read: (v) => v.getUint8(0) },
  1: { bytes: 1, read: (v) => v.getInt8(0) },
  2: { bytes: 2, read: (v) => v.getUint16(0, true) },
  3: { bytes: 2, read: (v) => v.getInt16(0, true) },
  4: { bytes: 4, read: (v) => v.getUint32(0, true) },
  5: { bytes: 4, read: (v) => v.getInt32(0, true) },
  6: { bytes: 4, read: (v) => v.getFloat32(0, true) },
  7: { bytes: 1, read: (v) => v.getUint8(0) !== 0 },
  10: { bytes: 8, read: (v) => v.getBigUint64(0, true) },
  11: { bytes: 8, read: (v) => v.getBigInt64(0, true) },
  12: { bytes: 8, read: (v) => v.getFloat64(0, true) },
};

/** The fields that a header is made of, each within its bounds. */
class Fields {
  /** Bytes taken so far. */
  bytes = 0;
  private readonly utf8 = new TextDecoder('utf-8', { fatal: true });

  constructor(private readonly file: string) {}

  *take(bytes: number): Parsing<Uint8Array> {
    this.bytes += bytes;
    return yield bytes;
  }

  *u32(): Parsing<number> {
    return view(yield* this.take(4)).getUint32(0, true);
  }

  /** A u64 of at most `most`. */
  *count(what: string, most: number): Parsing<number> {
    const n = view(yield* this.take(8)).getBigUint64(0, true);
    if (n > BigInt(most)) throw modelError(this.file, `says that it has ${n} ${what}; at most ${most} are read.`);
    return Number(n);
  }

  *string(mostBytes: number): Parsing<string> {
    const bytes = yield* this.take(yield* this.count('bytes of a text', mostBytes));
    try {
      return this.utf8.decode(bytes);
    } catch (cause) {
      throw modelError(this.file, `has a text that is not UTF-8, ${this.bytes} bytes into the file.`, { cause });
    }
  }

  /** null where it is not wanted. */
  *value(key: string, wanted: boolean): Parsing<GgufValue | null> {
    const type = yield* this.u32();
    if (type !== ARRAY) return yield* this.scalar(key, type, wanted);
    const inner = yield* this.u32();
    if (inner === ARRAY) throw modelError(this.file, `metadata ${key} is an array of arrays; none is read.`);
    const least = inner === STRING ? 8 : (SCALARS[inner]?.bytes ?? 1);
    const length = yield* this.count(`values of ${key}`, Math.floor(MAX_HEADER_BYTES / least));
    const values: GgufScalar[] = [];
    for (let i = 0; i < length; i++) {
      const value = yield* this.scalar(key, inner, wanted);
      if (value !== null) values.push(value);
    }
    return wanted ? values : null;
  }

  private *scalar(key: string, type: number, wanted: boolean): Parsing<GgufScalar | null> {
    if (type === STRING) {
      if (wanted) return yield* this.string(MAX_HEADER_BYTES);
      yield* this.take(yield* this.count(`bytes of ${key}`, MAX_HEADER_BYTES));
      return null;
    }
    const scalar = SCALARS[type];
    if (!scalar) throw modelError(this.file, `metadata ${key} has type ${type}, which GGUF does not know.`);
    const bytes = yield* this.take(scalar.bytes);
    if (!wanted) return null;
    const value = scalar.read(view(bytes));
    if (typeof value !== 'bigint') return value;
    if (value >= -BigInt(Number.MAX_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
    throw modelError(this.file, `metadata ${key} is ${value}; integers up to 2^53 are read.`);
  }
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
