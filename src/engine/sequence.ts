import type { FinishReason, GenerateRequest } from '../protocol/generate.ts';
import type { Pooling } from '../protocol/pooling.ts';
import { GREEDY, type SamplingParams } from '../protocol/sampling.ts';
import { Constraint, type StopRules } from './constraint.ts';
import { DRAFTING, type Drafting } from './drafting.ts';
import type { LoraAdapter } from './lora/adapters.ts';

/** Sampling of a sequence that is there for its prompt's KV: one token, which nobody looks at. */
export const PROMPT_ONLY: SamplingParams = { ...GREEDY, maxTokens: 1 };

/** Both hashes of one full block; see protocol/hashes.ts. */
export interface BlockHashes {
  readonly tokensHash: bigint;
  readonly blockHash: bigint;
}

/**
 * One stream of tokens being computed: one choice of a request. Plain state; the scheduler and the block manager move it.
 * Positions count from 0; the token at position p is `tokens[p]`, and computing p writes its K and V.
 */
export class Sequence {
  readonly request: string;
  readonly choice: number;
  readonly sampling: SamplingParams;
  readonly cacheSalt: string | undefined;
  readonly loraName: string | undefined;
  /** Its blocks may be hit by others, and theirs by it. */
  readonly caches: boolean;
  /** Its prompt becomes an embedding: it samples nothing, and ends with the step that computes its last token. null = it generates. */
  readonly pooling: Pooling | null;
  /** Lower goes first. */
  readonly priority: number;
  readonly promptLength: number;
  /** Tokens at which the sequence ends: prompt plus `maxTokens`, or the context. */
  readonly maxLength: number;
  /** The prompt's logprobs are wanted and were not delivered by an earlier attempt. */
  readonly scorePrompt: boolean;
  /** It is computed for its prompt's KV: its blocks are all taken at admission, and kept from its end until it is cancelled. It is never preempted. */
  readonly held: boolean;
  /** The grammar that its tokens are held to; null = free. */
  readonly constraint: Constraint | null;
  /** The prompt and all generated tokens that the host knows; `NO_ID` for each embedding of the prompt. */
  readonly tokens: number[];

  status: 'waiting' | 'running' | 'finished' = 'waiting';
  /** Row of the GPU tables while running. */
  slot: number | null = null;
  /** Grows with every preemption, so that steps of an earlier run are told from those of this one. */
  run = 0;
  /** Tokens known when this run was admitted: what the host wrote to the GPU's history. */
  admittedLength = 0;
  /** Positions whose computation has been scheduled in this run (or came from the cache); of steps with drafts that are not consumed, the one that is sure. */
  scheduled = 0;
  /** Positions whose step has been consumed in this run (or came from the cache). */
  computed = 0;
  /** Steps that sample, scheduled and not yet consumed. Each gives one token, and one more for each draft that is right. */
  pending = 0;
  /** Drafts scheduled and not yet consumed. */
  drafts = 0;
  drafting: Drafting = DRAFTING;
  /** Samples of runs before this one count no more: what it may end at has changed since. */
  validRun = 0;
  /** Prompt positions whose logprob rows have been consumed. */
  scored = 0;
  /** Prompt tokens that came from the prefix cache at the first admission; null before it. */
  cachedTokens: number | null = null;
  /** Block ids by position / block size. */
  blocks: number[] = [];
  /** Indices into `blocks` that the GPU's block table does not hold yet. */
  stale: number[] = [];
  /** How many leading blocks have been offered to the prefix cache in this run. */
  registered = 0;
  /** Hashes of the full blocks of `tokens`, as far as they were needed. */
  readonly hashes: BlockHashes[] = [];

  constructor(
    request: GenerateRequest,
    choice: number,
    generated: readonly number[],
    maxModelLen: number,
    held = false,
    /** Of that name, on the GPU. */
    readonly lora: LoraAdapter | null = null,
    /** [promptLength][hidden]: rows of the prompt begin with these and not with the embeddings of tokens; null = it has ids. */
    readonly embeds: Float32Array<ArrayBuffer> | null = null,
  ) {
    this.request = request.request;
    this.choice = choice;
    this.sampling = request.sampling;
    this.cacheSalt = request.cacheSalt;
    this.loraName = request.loraName;
    // Equal ids say nothing of such a prompt: all of them are `NO_ID`.
    this.caches = request.cache !== false && embeds === null;
    this.pooling = request.pooling ?? null;
    this.priority = request.priority ?? 0;
    this.promptLength = request.prompt.length;
    // The last token of a sequence is never computed, and all of a prompt is that is pooled.
    const longest = request.prompt.length + request.sampling.maxTokens;
    this.maxLength = this.pooling === null ? Math.min(longest, maxModelLen) : request.prompt.length + 1;
    // Prompt logprobs come with a choice's first frame (rule G5): after that they were delivered.
    this.scorePrompt = request.sampling.promptLogprobs !== null && generated.length === 0;
    this.held = held;
    this.constraint = request.grammar === undefined ? null : new Constraint(request, generated);
    this.tokens = [...request.prompt, ...generated];
  }

  /** Tokens generated so far, those of earlier attempts included. */
  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Length once all scheduled steps are read back, if no draft is right. */
  get virtualLength(): number {
    return this.tokens.length + this.pending;
  }

  /**
   * Positions that the next step of a decode may touch with `drafts` drafts: all drafts in flight may be right. The last token is never
   * computed.
   */
  reach(drafts: number): number {
    return Math.min(this.scheduled + this.drafts + 1 + drafts, this.maxLength - 1);
  }

  /** Positions of this run's known tokens that are still to be scheduled. */
  get prefillLeft(): number {
    return Math.max(0, this.admittedLength - this.scheduled);
  }

  /** Logprobs of the prompt are still to come. */
  get scoring(): boolean {
    return this.scorePrompt && this.scored < this.promptLength - 1;
  }

  /** A prompt that is scored reads no prefix cache, but fills it (vLLM's rule); so does one whose mean is wanted, which needs all of its rows. */
  get readsCache(): boolean {
    return this.caches && !this.scoring && this.pooling?.type !== 'MEAN';
  }

  /** What it may sample next is known. */
  get canSample(): boolean {
    return this.constraint?.ready ?? true;
  }

  /** Its next sample needs a mask. */
  get constrained(): boolean {
    return this.constraint?.masked ?? false;
  }

  get stops(): StopRules {
    if (this.constraint) return this.constraint.stops;
    const { stopIds, minTokens } = this.sampling;
    return { ids: stopIds, barred: stopIds.length, minTokens };
  }

  /** The next sample can be scheduled, be its input token known or not. */
  get canDecode(): boolean {
    return (
      this.canSample &&
      this.prefillLeft === 0 &&
      this.scheduled === this.virtualLength - 1 &&
      this.virtualLength < this.maxLength
    );
  }
}

/** What one consumed step gave one sequence. `stopId` is the last of `tokens`. */
export interface SequenceUpdate {
  readonly sequence: Sequence;
  /** Entry of `logitRows` that sampled the first of `tokens`; those of the others follow. Or that gave the embedding. */
  readonly sample: number;
  /** At least one; more where drafts were right, none of a sequence that is pooled. */
  readonly tokens: number[];
  /** Drafts that were found for the step. */
  readonly drafted: number;
  readonly finish?: FinishReason;
  readonly stopId?: number;
}
