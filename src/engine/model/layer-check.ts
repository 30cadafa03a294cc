import { GREEDY } from '../../protocol/sampling.ts';
import { readBuffer } from '../gpu/readback.ts';
import type { Runner } from '../runner.ts';
import type { Scheduler } from '../scheduler.ts';
import { Sequence } from '../sequence.ts';
import { type PackedPart, unpackRow, unpackWeight } from '../weights/unpack.ts';
import { type ReferenceWeights, referenceLayer } from './layer-reference.ts';
import type { TensorRole } from './spec.ts';

/** Largest difference, relative to the largest value of the row: f32 sums in another order, K and V rounded to the cache's dtype. */
const TOLERANCE = { f32: 2e-4, f16: 2e-3, bf16: 2e-2, int8: 3e-2 } as const;

/**
 * Computes embedding and layer 0 of `prompt` on the GPU and again on the CPU, from weights read back from the GPU.
 * Returns what differs, or null.
 */
export async function checkLayer(
  runner: Runner,
  scheduler: Scheduler,
  prompt: readonly number[],
): Promise<string | null> {
  const { spec, kvDtype } = runner.inputs;
  const sampling = { ...GREEDY, maxTokens: 1 };
  scheduler.add([
    new Sequence({ request: 'layer-check', prompt: [...prompt], choices: [], sampling }, 0, [], prompt.length + 1),
  ]);
  const plan = scheduler.schedule();
  if (!plan || plan.numRows !== prompt.length) return `a step of ${prompt.length} rows could not be scheduled`;
  const residual = await runner.residualAfterLayer(plan, 0);
  const weights = await readWeights(runner);
  for (const [row, expected] of referenceLayer(spec, weights, prompt).entries()) {
    const largest = expected.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-6);
    for (const [i, value] of expected.entries()) {
      const got = residual[row * spec.hiddenSize + i]!;
      if (!(Math.abs(got - value) <= TOLERANCE[kvDtype] * largest)) {
        return `layer 0 gives ${got} at position ${row}, dimension ${i}, where the CPU gives ${value}`;
      }
    }
  }
  return null;
}

async function readWeights(runner: Runner): Promise<ReferenceWeights> {
  const { spec, weights, gpu } = runner.inputs;
  const partsOf = (role: TensorRole, layer: number | null): Promise<PackedPart[]> =>
    Promise.all(
      weights.parts(role, layer).map(async ({ buffer, ...part }) => ({
        ...part,
        bytes: new Uint8Array(await readBuffer(gpu.device, buffer)),
      })),
    );
  const read = new Map<TensorRole, ReturnType<typeof unpackWeight>>();
  for (const { role, layer } of spec.weights) {
    if (layer === 0) read.set(role, unpackWeight(await partsOf(role, 0)));
  }
  const tables = await partsOf('embed', null);
  return {
    get: (role) => read.get(role)!,
    embedding: (token) => {
      const table = tables.find(({ firstOutput, outputs }) => token >= firstOutput && token < firstOutput + outputs)!;
      return unpackRow(table.bytes, table, token - table.firstOutput);
    },
  };
}
