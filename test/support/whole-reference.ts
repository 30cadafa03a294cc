import { readFileSync } from 'node:fs';
import path from 'node:path';
import { modelSpec } from '../../src/engine/model/config.ts';
import { type ReferenceWeights, referenceLayer } from '../../src/engine/model/layer-reference.ts';
import type { ModelSpec, TensorRole } from '../../src/engine/model/spec.ts';
import { widen } from '../../src/engine/weights/float16.ts';
import { headerLength, PREFIX_BYTES, parseHeader } from '../../src/engine/weights/safetensors.ts';
import { isFloatType } from '../../src/engine/weights/tensor-types.ts';

type Matrix = ReturnType<ReferenceWeights['get']>;

/** A model of a folder on the CPU, layer by layer in float64, from the bytes of its file: no shader and no buffer has a part in it. */
export class WholeReference {
  readonly spec: ModelSpec;
  readonly #weights = new Map<string, Matrix>();

  constructor(folder: string) {
    this.spec = modelSpec(JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')));
    const file = readFileSync(path.join(folder, 'model.safetensors'));
    const length = headerLength(file.subarray(0, PREFIX_BYTES), file.length, 'reference');
    const tensors = parseHeader(file.subarray(PREFIX_BYTES, PREFIX_BYTES + length), file.length, 'reference');
    const valuesOf = (name: string): Float32Array => {
      const { dtype, begin, end } = tensors.find((tensor) => tensor.name === name)!;
      if (!isFloatType(dtype)) throw new Error(`${name} is ${dtype}`);
      return widen(file.subarray(begin, end), dtype);
    };
    for (const { role, layer, sources, rows, cols } of this.spec.weights) {
      const values = new Float64Array(rows * cols);
      let at = 0;
      for (const { name } of sources) {
        const part = valuesOf(name);
        values.set(part, at);
        at += part.length;
      }
      this.#weights.set(`${role} ${layer}`, { rows, cols, values });
    }
  }

  /** What the last norm gives for each token: [token][hidden]. */
  normed(tokens: readonly number[]): Float64Array[] {
    const width = this.spec.hiddenSize;
    const table = this.#get('embed', null).values;
    let rows: Float64Array[] = tokens.map((token) =>
      Float64Array.from({ length: width }, (_, i) => table[token * width + i]! * this.spec.embedScale),
    );
    for (const [i, layer] of this.spec.layers.entries()) {
      // A layer's input in the place of the embedding, its row numbers in the place of token ids.
      const before = rows;
      const one = { ...this.spec, embedScale: 1, layers: [layer] };
      const weights = { get: (role: TensorRole) => this.#get(role, i), embedding: (row: number) => before[row]! };
      rows = referenceLayer(one, weights, [...before.keys()]);
    }
    const weight = this.#get('finalNorm', null).values;
    return rows.map((x) => {
      const scale = 1 / Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / width + this.spec.normEps);
      return x.map((v, i) => v * scale * (weight[i]! + this.spec.normOffset));
    });
  }

  #get(role: TensorRole, layer: number | null): Matrix {
    return this.#weights.get(`${role} ${layer}`)!;
  }
}
