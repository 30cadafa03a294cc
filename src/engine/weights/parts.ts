import { type WeightDtype, type WeightLayout, weightLayout } from '../kernels/dtype.ts';
import type { WeightSpec } from '../model/spec.ts';

/** Buffers end on 16 bytes, so that shaders may bind them as vectors of four words. */
const BUFFER_ALIGNMENT = 16;

/** Some outputs of a weight, of all its matrices, in one buffer and one dtype. Vectors (one column) are widened to f32. */
export interface PlannedWeight {
  readonly spec: WeightSpec;
  readonly firstOutput: number;
  readonly outputs: number;
  /** `outputs` of each matrix, one matrix after the other. */
  readonly rows: number;
  readonly dtype: WeightDtype;
  readonly layout: WeightLayout;
  /** Size of its buffer. */
  readonly bytes: number;
}

/** Outputs of a weight from `firstOutput` on. */
export interface OutputRange {
  readonly firstOutput: number;
  readonly outputs: number;
}

/** Outputs of each matrix of a weight. */
export function outputsOf({ rows, matrices }: Pick<WeightSpec, 'rows' | 'matrices'>): number {
  return rows / matrices;
}

/**
 * The range in as few buffers of at most `maxBufferBytes` as hold it, of about the same size. A sum lies in one buffer whatever their
 * number, since a row is never cut. null where one output alone is larger, as a vector above the limit is: it cannot be split.
 */
export function splitWeight(
  spec: WeightSpec,
  { firstOutput, outputs }: OutputRange,
  dtype: WeightDtype,
  maxBufferBytes: number,
): PlannedWeight[] | null {
  const bytesOf = (count: number) =>
    Math.ceil(weightLayout(dtype, count * spec.matrices, spec.cols).bytes / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT;
  const usable = maxBufferBytes - (maxBufferBytes % BUFFER_ALIGNMENT);
  const most = spec.cols === 1 ? outputs : Math.floor(usable / weightLayout(dtype, spec.matrices, spec.cols).bytes);
  if (most < 1 || bytesOf(Math.min(most, outputs)) > maxBufferBytes) return null;
  const each = Math.ceil(outputs / Math.ceil(outputs / most));
  return Array.from({ length: Math.ceil(outputs / each) }, (_, i) => {
    const count = Math.min(each, outputs - i * each);
    const rows = count * spec.matrices;
    const layout = weightLayout(dtype, rows, spec.cols);
    return { spec, firstOutput: firstOutput + i * each, outputs: count, rows, dtype, layout, bytes: bytesOf(count) };
  });
}

/** Consecutive rows of a weight that are consecutive rows of one of its parts too. */
export interface PlacedRows {
  readonly part: PlannedWeight;
  /** Of the part: where they begin. */
  readonly row: number;
  readonly rows: number;
}

/** Where `rows` rows of a weight from row `first` on lie, in their order. */
export function* placesOf(parts: readonly PlannedWeight[], first: number, rows: number): Generator<PlacedRows> {
  const end = first + rows;
  for (let at = first; at < end; ) {
    const of = outputsOf(parts[0]!.spec);
    const output = at % of;
    const part = parts.find((p) => output >= p.firstOutput && output < p.firstOutput + p.outputs)!;
    // A part with all outputs has the matrices as the weight has them, one right after the other.
    const here = part.outputs === of ? end - at : Math.min(end - at, part.firstOutput + part.outputs - output);
    yield { part, row: Math.floor(at / of) * part.outputs + output - part.firstOutput, rows: here };
    at += here;
  }
}
