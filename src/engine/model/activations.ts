import { MAX_LOGIT_BIAS } from '../../protocol/sampling.ts';
import { allocate } from '../gpu/allocate.ts';
import { partialsBytes } from '../kernels/attention.ts';
import { sampleScratchBytes } from '../kernels/sample.ts';
import type { KernelVariant } from '../kernels/variant.ts';
import { loraColumns } from '../lora/sites.ts';
import { LOGPROB_STRIDE, maskWords, SLOT_STRIDE, stepLayout, type TableSizes } from '../tables.ts';
import type { ExpertsSpec, ModelSpec } from './spec.ts';

/** A buffer that the model does not need is there all the same, as small as buffers get. */
const LEAST_BYTES = 16;

/** Bytes of every buffer of an engine beside weights and KV pool: tables (see tables.ts) and activations, one buffer a role. */
export function engineBufferSizes(spec: ModelSpec, s: TableSizes, variant: KernelVariant) {
  const heads = spec.numHeads * spec.headDim;
  const kv = spec.numKvHeads * spec.headDim;
  const sparse = spec.layers.flatMap(({ experts }) => experts ?? []);
  const most = (size: (experts: ExpertsSpec) => number) => Math.max(0, ...sparse.map(size));
  const gated = Math.max(
    spec.intermediateSize,
    most((e) => e.perToken * e.intermediateSize),
  );
  return {
    step: stepLayout(s).words * 4,
    slots: s.maxSlots * SLOT_STRIDE * 4,
    history: s.maxSlots * s.maxLen * 4,
    blockTable: s.maxSlots * s.maxBlocksPerSeq * 4,
    bias: s.maxSlots * MAX_LOGIT_BIAS * 8,
    counts: s.maxSlots * s.vocabSize * 4,
    masks: s.maxSlots * maskWords(s) * 4,
    rows: s.maxRows * 16,
    samples: s.maxLogitRows * 4,
    logprobs: s.maxLogitRows * LOGPROB_STRIDE * 4,
    /** Working memory of `sample`. */
    scratch: sampleScratchBytes(s),
    /** [row][hidden]: the residual stream */
    hidden: s.maxRows * spec.hiddenSize * 4,
    normed: s.maxRows * spec.hiddenSize * 4,
    qkv: s.maxRows * (heads + 2 * kv) * 4,
    q: s.maxRows * heads * 4,
    attended: s.maxRows * heads * 4,
    /** What the tiles of positions of split rows give. */
    partials: partialsBytes(variant, { ...spec, maxLen: s.maxLen }),
    gated: s.maxRows * gated * 4,
    /** [row][gates, then ups]: before their activation, in steps where LoRA adapters change them */
    gateUp: s.lora ? s.maxRows * 2 * spec.intermediateSize * 4 : LEAST_BYTES,
    /** [row][target][rank]: inputs of a product, multiplied down by LoRA adapters */
    shrunk: s.lora ? s.maxRows * loraColumns(spec, s.lora) * 4 : LEAST_BYTES,
    /** [row][hidden]: what attention or MLP give, where it is normed before it is added */
    branch: spec.outNorms ? s.maxRows * spec.hiddenSize * 4 : LEAST_BYTES,
    routerLogits: Math.max(LEAST_BYTES, s.maxRows * most((e) => e.count) * 4),
    /** [row][expert of the row] (expert, weight) */
    chosen: Math.max(LEAST_BYTES, s.maxRows * most((e) => e.perToken) * 8),
    /** [logit row][hidden]: rows that need logits, gathered and normed; or sequences that are pooled */
    headInput: s.maxLogitRows * spec.hiddenSize * 4,
    logits: spec.pools ? LEAST_BYTES : s.maxLogitRows * s.vocabSize * 4,
    scores: spec.pools ? LEAST_BYTES : s.maxLogitRows * s.vocabSize * 4,
    sums: spec.pools ? s.maxSlots * spec.hiddenSize * 4 : LEAST_BYTES,
  };
}

/** Bytes of all of them together. */
export function engineBufferBytes(spec: ModelSpec, sizes: TableSizes, variant: KernelVariant): number {
  return Object.values(engineBufferSizes(spec, sizes, variant)).reduce((a, b) => a + b, 0);
}

export type EngineBuffers = Record<keyof ReturnType<typeof engineBufferSizes>, GPUBuffer>;

/** Allocates them. Throws `EngineError` code `out_of_memory`. */
export function createEngineBuffers(
  device: GPUDevice,
  spec: ModelSpec,
  s: TableSizes,
  variant: KernelVariant,
): Promise<EngineBuffers> {
  return allocate(device, 'Activations and tables', engineBufferSizes(spec, s, variant));
}
