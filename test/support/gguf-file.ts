/** Writes GGUF files, version 3, by ggml's docs/gguf.md; shares nothing with the reader. */
export const GGML_TYPE = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q2_K: 10,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  BF16: 30,
} as const;
export type GgmlType = keyof typeof GGML_TYPE;

export interface GgufTensor {
  readonly type: number;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Metadata: numbers are u32 where they are whole, else f32. `{ i32: [...] }` and `{ f32: [...] }` are arrays of those, `{ u16: n }` is a u16. */
export type Metadata = Record<
  string,
  | number
  | boolean
  | string
  | readonly string[]
  | readonly boolean[]
  | { readonly i32: readonly number[] }
  | { readonly f32: readonly number[] }
  | { readonly u16: number }
>;

export interface GgufParts {
  readonly metadata: Metadata;
  readonly tensors: Readonly<Record<string, GgufTensor>>;
  readonly version?: number;
  readonly alignment?: number;
}

const u32 = (n: number) => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};
const u16 = (n: number) => {
  const b = Buffer.alloc(2);
  b.writeUInt16LE(n);
  return b;
};
const u64 = (n: number | bigint) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b;
};
const f32 = (n: number) => {
  const b = Buffer.alloc(4);
  b.writeFloatLE(n);
  return b;
};
export const text = (s: string): Buffer => {
  const bytes = Buffer.from(s);
  return Buffer.concat([u64(bytes.length), bytes]);
};

function value(v: Metadata[string]): Buffer {
  if (typeof v === 'string') return Buffer.concat([u32(8), text(v)]);
  if (typeof v === 'boolean') return Buffer.concat([u32(7), Buffer.of(Number(v))]);
  if (typeof v === 'number')
    return Number.isInteger(v) ? Buffer.concat([u32(4), u32(v)]) : Buffer.concat([u32(6), f32(v)]);
  if ('u16' in v) return Buffer.concat([u32(2), u16(v.u16)]);
  if ('i32' in v) return Buffer.concat([u32(9), u32(5), u64(v.i32.length), Buffer.from(Int32Array.from(v.i32).buffer)]);
  if ('f32' in v)
    return Buffer.concat([u32(9), u32(6), u64(v.f32.length), Buffer.from(Float32Array.from(v.f32).buffer)]);
  const booleans = v.filter((each) => typeof each === 'boolean');
  if (v.length > 0 && booleans.length === v.length)
    return Buffer.concat([u32(9), u32(7), u64(v.length), Buffer.from(booleans.map(Number))]);
  return Buffer.concat([u32(9), u32(8), u64(v.length), ...v.map((each) => text(String(each)))]);
}

/** A GGUF file of these metadata and tensors, in their order. */
export function ggufFile({ metadata, tensors, version = 3, alignment = 32 }: GgufParts): Uint8Array<ArrayBuffer> {
  const all: Metadata = alignment === 32 ? metadata : { ...metadata, 'general.alignment': alignment };
  const padding = (n: number) => (alignment - (n % alignment)) % alignment;
  const infos: Buffer[] = [];
  const data: Uint8Array[] = [];
  let at = 0;
  for (const [name, { type, shape, bytes }] of Object.entries(tensors)) {
    infos.push(text(name), u32(shape.length), ...[...shape].reverse().map(u64), u32(type), u64(at));
    data.push(bytes, new Uint8Array(padding(bytes.byteLength)));
    at += bytes.byteLength + padding(bytes.byteLength);
  }
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(version),
    u64(Object.keys(tensors).length),
    u64(Object.keys(all).length),
    ...Object.entries(all).flatMap(([key, v]) => [text(key), value(v)]),
    ...infos,
  ]);
  return Uint8Array.from(Buffer.concat([header, new Uint8Array(padding(header.length)), ...data]));
}

/**
 * The same in files of so many tensors each, the last one with the rest, as llama.cpp's gguf-split writes them: metadata in the first alone,
 * beside those of the split.
 */
export function splitGguf(
  name: string,
  { metadata, tensors }: GgufParts,
  ...counts: readonly number[]
): Record<string, Uint8Array<ArrayBuffer>> {
  const all = Object.entries(tensors);
  const total = counts.length + 1;
  const five = (n: number) => String(n).padStart(5, '0');
  const files: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (let no = 0; no < total; no++) {
    const own = all.splice(0, counts[no] ?? all.length);
    const split: Metadata = {
      'split.no': { u16: no },
      'split.count': { u16: total },
      'split.tensors.count': Object.keys(tensors).length,
    };
    files[`${name}-${five(no + 1)}-of-${five(total)}.gguf`] = ggufFile({
      metadata: no === 0 ? { ...metadata, ...split } : split,
      tensors: Object.fromEntries(own),
    });
  }
  return files;
}
