import * as z from 'zod';
import { checked, modelError } from '../model-error.ts';
import type { TensorInfo } from '../weights/tensor-types.ts';
import type { LoraProduct, LoraTarget } from './sites.ts';

export const LORA_CONFIG = 'adapter_config.json';
export const LORA_WEIGHTS = 'adapter_model.safetensors';
/** Most bytes of `adapter_config.json`. */
export const MAX_LORA_CONFIG_BYTES = 1 << 20;

const rank = z.number().int().min(1).max(1024);
const alpha = z.number().min(0).max(1e6);
const name = z.string().max(512);
/** Parts of what adapters of this kind may have and this engine does not compute; each is refused by its name unless it says that it is off. */
const off = (field: string) =>
  z
    .unknown()
    .refine(
      (value) => value === undefined || value === null || value === false || isEmpty(value),
      `${field} is not supported. Use an adapter that was trained without it.`,
    )
    .optional();

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

/** PEFT's `LoraConfig` as it is saved (https://huggingface.co/docs/peft, "LoRA"): what decides the numbers. Other fields are about training. */
const PeftConfig = z.looseObject({
  peft_type: z.literal('LORA', { error: 'this is no LoRA adapter; only LORA is supported.' }),
  r: rank,
  lora_alpha: alpha.default(8),
  use_rslora: z.boolean().nullish(),
  rank_pattern: z.record(name, rank).nullish(),
  alpha_pattern: z.record(name, alpha).nullish(),
  /** Names of modules (all of them must be there), or a rule by which PEFT chose those that are. */
  target_modules: z.union([z.array(name).max(4096), name]).nullish(),
  layers_to_transform: z.union([z.array(z.number().int()).max(4096), z.number().int()]).nullish(),
  exclude_modules: z.unknown().optional(),
  bias: z.literal('none', { error: 'biases in adapters are not supported; only none is.' }).default('none'),
  modules_to_save: off('modules_to_save'),
  use_dora: off('use_dora'),
  fan_in_fan_out: off('fan_in_fan_out'),
  lora_bias: off('lora_bias'),
  layer_replication: off('layer_replication'),
  use_qalora: off('use_qalora'),
  trainable_token_indices: off('trainable_token_indices'),
  target_parameters: off('target_parameters'),
  alora_invocation_tokens: off('alora_invocation_tokens'),
});

/** What an adapter adds to the columns of one target: `scale` B A, A [rank][inputs], B [columns][rank]. */
export interface LoraPart {
  readonly product: LoraProduct;
  /** Number of the target in the product. */
  readonly target: number;
  readonly rank: number;
  readonly scale: number;
}

/** Where a tensor of an adapter belongs. */
export interface PlacedTensor {
  readonly part: LoraPart;
  readonly matrix: 'A' | 'B';
}

const TENSOR = /^base_model\.model\.model\.layers\.(\d{1,5})\.(.+)\.lora_([AB])\.weight$/;

/** An adapter in PEFT's layout, compared with the model that it is to be added to. */
export class PeftAdapter {
  private readonly config: z.infer<typeof PeftConfig>;
  private readonly targets = new Map<string, { readonly product: LoraProduct; readonly index: number }>();

  /**
   * products: of the model. maxRank: highest that there is room for.
   * Throws `EngineError` code `model` that names the field of `adapter_config.json` which is not supported.
   */
  constructor(
    private readonly name: string,
    config: unknown,
    products: readonly LoraProduct[],
    private readonly maxRank: number,
  ) {
    this.config = checked(PeftConfig, config, this.where(LORA_CONFIG));
    for (const product of products) {
      for (const [index, { module }] of product.targets.entries())
        this.targets.set(`${product.layer}.${module}`, { product, index });
    }
    for (const pattern of ['rank_pattern', 'alpha_pattern'] as const) {
      const odd = Object.keys(this.config[pattern] ?? {}).find((key) => !/^[\w.]+$/.test(key));
      if (odd !== undefined)
        throw modelError(
          this.where(LORA_CONFIG),
          `${pattern}: "${odd}" is a regular expression, which is not supported. Name the modules.`,
        );
    }
  }

  /**
   * Where each of the tensors belongs. Throws `EngineError` code `model` that names the first tensor which is unknown, of another shape,
   * without its other half, or missing.
   */
  place(tensors: readonly TensorInfo[]): PlacedTensor[] {
    const halves = new Map<string, Set<string>>();
    const placed = tensors.map((tensor): PlacedTensor => {
      const [, layer, module, matrix] = TENSOR.exec(tensor.name) ?? [];
      const key = `${Number(layer)}.${module}`;
      const found = this.targets.get(key);
      if (found === undefined || (matrix !== 'A' && matrix !== 'B')) throw this.unknown(tensor.name);
      halves.set(key, (halves.get(key) ?? new Set()).add(matrix));
      const part = this.part(found.product, found.index);
      const { inputs } = found.product;
      const columns = found.product.targets[found.index]!.columns;
      const shape = matrix === 'A' ? [part.rank, inputs] : [columns, part.rank];
      if (tensor.shape.join() !== shape.join())
        throw modelError(
          this.where(LORA_WEIGHTS),
          `tensor ${tensor.name} is [${tensor.shape}], and of rank ${part.rank} in this model it is [${shape}]. Is the adapter for another model?`,
        );
      return { part, matrix };
    });
    if (placed.length === 0) throw modelError(this.where(LORA_WEIGHTS), 'it has no tensors.');
    for (const [key, { size }] of halves) {
      if (size < 2) throw modelError(this.where(LORA_WEIGHTS), `layer ${key} has only one of lora_A and lora_B.`);
    }
    this.requireTargets(halves);
    return placed;
  }

  private part(product: LoraProduct, target: number): LoraPart {
    const { module } = product.targets[target]!;
    const { r, lora_alpha, use_rslora, rank_pattern, alpha_pattern } = this.config;
    const path = `model.layers.${product.layer}.${module}`;
    const own = byPattern(rank_pattern, path) ?? r;
    if (own > this.maxRank)
      throw modelError(
        this.where(LORA_CONFIG),
        `its rank is ${own}, and there is room for ${this.maxRank}. Raise --max-lora-rank.`,
      );
    const scaled = byPattern(alpha_pattern, path) ?? lora_alpha;
    return { product, target, rank: own, scale: scaled / (use_rslora ? Math.sqrt(own) : own) };
  }

  /** Every module that the config names is in every layer that it names. */
  private requireTargets(halves: ReadonlyMap<string, unknown>): void {
    const { target_modules, layers_to_transform, exclude_modules } = this.config;
    // What a rule chose cannot be told without PEFT; the tensors say it.
    if (!Array.isArray(target_modules) || !(exclude_modules === undefined || exclude_modules === null)) return;
    const layers = layers_to_transform ?? null;
    const chosen = (layer: number) =>
      layers === null || (typeof layers === 'number' ? layers === layer : layers.includes(layer));
    for (const named of target_modules) {
      const wanted = [...this.targets].filter(
        ([, { product, index }]) =>
          chosen(product.layer) && isNamed(named, `model.layers.${product.layer}.${product.targets[index]!.module}`),
      );
      if (wanted.length === 0)
        throw modelError(
          this.where(LORA_CONFIG),
          `target_modules: "${named}" is not supported in this model. Supported: ${[...new Set([...this.targets.values()].map(({ product, index }) => lastOf(product.targets[index]!)))].join(', ')}.`,
        );
      const missing = wanted.find(([key]) => !halves.has(key));
      if (missing !== undefined)
        throw modelError(
          this.where(LORA_WEIGHTS),
          `target_modules names "${named}", and layer ${missing[0]} has no tensors. Is the file complete?`,
        );
    }
  }

  private unknown(tensor: string): Error {
    const about = /embed|lm_head/.test(tensor)
      ? ' Adapters of embeddings and of the head are not supported.'
      : /\.experts\./.test(tensor)
        ? ' Adapters of experts are not supported.'
        : '';
    return modelError(
      this.where(LORA_WEIGHTS),
      `tensor ${tensor.slice(0, 200)} belongs to nothing that an adapter can change in this model.${about}`,
    );
  }

  private where(file: string): string {
    return `LoRA adapter ${this.name}: ${file}`;
  }
}

/** PEFT takes a key for a module whose path is it, or ends in it. */
function isNamed(key: string, path: string): boolean {
  return path === key || path.endsWith(`.${key}`);
}

function byPattern(pattern: Readonly<Record<string, number>> | null | undefined, path: string): number | undefined {
  return Object.entries(pattern ?? {}).find(([key]) => isNamed(key, path))?.[1];
}

function lastOf({ module }: LoraTarget): string {
  return module.slice(module.lastIndexOf('.') + 1);
}
