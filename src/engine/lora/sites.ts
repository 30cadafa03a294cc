import type { ModelSpec, TensorRole } from '../model/spec.ts';
import type { LoraSizes } from '../tables.ts';

/** The products of a layer that adapters add to, by the weight that they are with. */
export const LORA_SITES = ['qkv', 'oProj', 'gateUp', 'down'] as const satisfies readonly TensorRole[];
export type LoraSite = (typeof LORA_SITES)[number];

/** A linear layer of the checkpoint, as part of a product. */
export interface LoraTarget {
  /** Name within its layer, as HF transformers have it: `self_attn.q_proj`. */
  readonly module: string;
  /** Its columns of the product. */
  readonly firstColumn: number;
  readonly columns: number;
}

/** One product of one layer. */
export interface LoraProduct {
  readonly site: LoraSite;
  readonly layer: number;
  /** Columns of its input. */
  readonly inputs: number;
  readonly columns: number;
  /** Ascending by column; they cover all columns. */
  readonly targets: readonly LoraTarget[];
}

/** Names by how many tensors the weight is made of: phi3 has q, k and v in one, and gate and up. */
const MODULES: Readonly<Record<LoraSite, readonly (readonly string[])[]>> = {
  qkv: [['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'], ['self_attn.qkv_proj']],
  oProj: [['self_attn.o_proj']],
  gateUp: [['mlp.gate_proj', 'mlp.up_proj'], ['mlp.gate_up_proj']],
  down: [['mlp.down_proj']],
};

/** Every product of the model that an adapter may add to. Layers of experts have those of attention alone. */
export function loraProducts(spec: ModelSpec): LoraProduct[] {
  return spec.weights.flatMap(({ role, layer, sources, rows, cols }) => {
    const site = LORA_SITES.find((each) => each === role);
    const modules = site && MODULES[site].find(({ length }) => length === sources.length);
    if (site === undefined || modules === undefined || layer === null) return [];
    let firstColumn = 0;
    const targets = sources.map((source, i) => {
      const target = { module: modules[i]!, firstColumn, columns: source.rows };
      firstColumn += source.rows;
      return target;
    });
    return [{ site, layer, inputs: cols, columns: rows, targets }];
  });
}

/** Bytes of the two buffers of a product (f32): A as [adapter][target][rank][inputs], B as [adapter][rank][columns]. */
export function productBytes({ inputs, columns, targets }: LoraProduct, { adapters, rank }: LoraSizes) {
  return { a: adapters * targets.length * rank * inputs * 4, b: adapters * rank * columns * 4 };
}

/** Bytes of the buffers of all products. */
export function loraBytes(spec: ModelSpec, sizes: LoraSizes): number {
  return loraProducts(spec).reduce((sum, product) => {
    const { a, b } = productBytes(product, sizes);
    return sum + a + b;
  }, 0);
}

/** Columns of what the inputs are multiplied down to, for the product with the most targets. */
export function loraColumns(spec: ModelSpec, { rank }: LoraSizes): number {
  return Math.max(0, ...loraProducts(spec).map(({ targets }) => targets.length * rank));
}
