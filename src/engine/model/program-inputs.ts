import type { Speculation } from '../../config/speculative.ts';
import type { Gpu } from '../gpu/device.ts';
import type { KvDtype } from '../kernels/dtype.ts';
import type { KernelVariant } from '../kernels/variant.ts';
import type { KvLayer } from '../kv/pool.ts';
import type { LoraAdapters } from '../lora/adapters.ts';
import type { TableSizes } from '../tables.ts';
import type { LoadedWeights } from '../weights/loaded.ts';
import type { EngineBuffers } from './activations.ts';
import type { ModelSpec } from './spec.ts';

/** All that the kernels of a step bind, and the sizes that shape them. */
export interface ProgramInputs {
  readonly gpu: Gpu;
  readonly spec: ModelSpec;
  readonly weights: LoadedWeights;
  readonly sizes: TableSizes;
  readonly buffers: EngineBuffers;
  readonly pool: readonly KvLayer[];
  readonly blockSize: number;
  readonly kvDtype: KvDtype;
  readonly variant: KernelVariant;
  /** Kernels of matrix instructions may be used; their sums depend on the number of rows. */
  readonly matrices: boolean;
  /** null: no step has drafts. */
  readonly speculation: Speculation | null;
  /** Per layer: inverse frequencies of its rotary embedding, f32. */
  readonly invFreq: readonly GPUBuffer[];
  /** null where there may be none. */
  readonly loras: LoraAdapters | null;
}

/** Which rows a program is for. */
export interface StepRows {
  readonly bucket: number;
  /** There may be chunks of prompts among them, else all are of decodes. Chooses kernels, never results. */
  readonly chunks: boolean;
  /** Bits of `LORA_SITES`: products that LoRA adapters of the rows may change; 0 where no row goes through one. */
  readonly loras: number;
}
