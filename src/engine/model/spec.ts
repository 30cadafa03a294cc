/** How a position turns into angles; `inverseFrequencies` in rope.ts makes the table. */
export type RopeScaling =
  | { readonly kind: 'default' }
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositions: number;
    }
  | {
      readonly kind: 'yarn';
      readonly factor: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly originalMaxPositions: number;
      /** Round the borders of the ramp to whole dimensions. */
      readonly truncate: boolean;
    }
  /** Each pair of dimensions has a divisor of its own. */
  | { readonly kind: 'longrope'; readonly factors: readonly number[] }
  /** The same, but the divisors are a tensor of the checkpoint (`ropeFactors`) and known once it is loaded. */
  | { readonly kind: 'stored' };

export interface RopeSpec {
  readonly theta: number;
  readonly scaling: RopeScaling;
  /** How many of a head's dimensions turn (the rest pass through). */
  readonly rotaryDim: number;
  /** Multiplies the turned dimensions of q and of k (yarn, longrope; else 1). */
  readonly attentionFactor: number;
}

/** A mixture of experts in the place of a layer's MLP. */
export interface ExpertsSpec {
  readonly count: number;
  /** How many experts compute a row: those of the largest router probabilities. */
  readonly perToken: number;
  /** Columns between gate-up and down of one expert. */
  readonly intermediateSize: number;
  /** The chosen probabilities are divided by their sum. */
  readonly normalized: boolean;
}

/** What one layer does; layers of one model may differ (sliding windows, dense or sparse). */
export interface LayerSpec {
  readonly rope: RopeSpec;
  /** A query sees the last `slidingWindow` positions, itself included; null = all. */
  readonly slidingWindow: number | null;
  /** null = a dense MLP. */
  readonly experts: ExpertsSpec | null;
}

export type TensorRole =
  | 'embed'
  | 'finalNorm'
  | 'lmHead'
  | 'inputNorm'
  | 'qkv'
  | 'qkvBias'
  | 'qkNorm'
  | 'oProj'
  | 'oBias'
  | 'attentionOutNorm'
  | 'mlpNorm'
  | 'gateUp'
  | 'down'
  | 'router'
  | 'expertGateUp'
  | 'expertDown'
  | 'mlpOutNorm'
  | 'ropeFactors';

/** One tensor of the checkpoint and its rows' places in a weight. */
export interface WeightSource {
  readonly name: string;
  readonly rows: number;
  /**
   * Where its rows lie apart: runs of `rows` rows, the first at row `first` of the weight, each `every` rows after the one before
   * (a tensor with the gates of all experts).
   */
  readonly runs?: { readonly first: number; readonly rows: number; readonly every: number };
  /** Rows of a head, where the file keeps the two rows of each rotated pair side by side and not half a head apart. */
  readonly interleaved?: number;
}

/**
 * One weight of the program, made of one or more tensors of the checkpoint stacked by rows
 * (q, k and v become one `qkv`; gate and up become one `gateUp`: all gate rows, then all up rows; the norms of q and k
 * become one `qkNorm`: headDim values of q, then headDim of k; experts lie one after the other).
 */
export interface WeightSpec {
  readonly role: TensorRole;
  /** null for weights outside the layers. */
  readonly layer: number | null;
  /** Names in the checkpoint, stacked in this order. */
  readonly sources: readonly WeightSource[];
  readonly rows: number;
  /** Matrices of as many outputs each that lie one after the other: gate and up, or those of all experts; else 1. */
  readonly matrices: number;
  /** 1 for vectors (norms, biases). */
  readonly cols: number;
}

/** One transformer, as data. A new architecture is a new mapping from its HF config to this, not a new class. */
export interface ModelSpec {
  readonly architecture: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly maxPositions: number;
  readonly normEps: number;
  /** Added to every norm weight before it multiplies (gemma: 1). */
  readonly normOffset: number;
  readonly qkNorm: boolean;
  readonly qkvBias: boolean;
  readonly oBias: boolean;
  /** Norms also of what attention and MLP give, before it is added to the residual stream (gemma 3). */
  readonly outNorms: boolean;
  readonly attentionScale: number;
  /** Scores become cap * tanh(score / cap); 0 = they stay. */
  readonly attentionSoftcap: number;
  readonly logitSoftcap: number;
  readonly activation: 'silu' | 'gelu_tanh';
  readonly embedScale: number;
  /** No `lmHead` among the weights: the `embed` weight is the head too. */
  readonly tiedEmbeddings: boolean;
  /** It gives embeddings of prompts and samples nothing: there is no `lmHead`, tied or not. */
  readonly pools: boolean;
  readonly layers: readonly LayerSpec[];
  readonly weights: readonly WeightSpec[];
  readonly eosIds: readonly number[];
  readonly bosId: number | null;
}
