import type { ModelSpec } from '../../src/engine/model/spec.ts';

export interface TestTensor {
  readonly dtype: 'F32' | 'BF16' | 'F16';
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export type TestTensors = Record<string, TestTensor>;

/** A safetensors file of these tensors, in their order. */
export function safetensorsFile(tensors: TestTensors): Uint8Array {
  let at = 0;
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.byteLength] };
    at += bytes.byteLength;
  }
  const text = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.byteLength));
  return Buffer.concat([prefix, text, ...Object.values(tensors).map((t) => t.bytes)]);
}

/** All tensors that a model expects, each byte of them different from its neighbours. */
export function tensorsFor(spec: ModelSpec, dtype: TestTensor['dtype']): TestTensors {
  let next = 1;
  const tensors: TestTensors = {};
  for (const { sources, cols } of spec.weights) {
    for (const { name, rows } of sources) {
      const bytes = new Uint8Array(rows * cols * (dtype === 'F32' ? 4 : 2)).map(() => (next = (next * 7 + 3) % 251));
      tensors[name] = { dtype, shape: cols === 1 ? [rows] : [rows, cols], bytes };
    }
  }
  return tensors;
}
