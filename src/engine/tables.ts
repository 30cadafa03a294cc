import { MAX_MARKS } from '../protocol/generate.ts';
import { MAX_LOGIT_BIAS, MAX_STOP_IDS, MAX_TOP_LOGPROBS } from '../protocol/sampling.ts';

/**
 * Layout of the GPU tables that the step and slot shaders share, in u32 words. This file is the only place
 * that knows it: `tableConstants` hands the numbers to the shaders as WGSL constants of the same names.
 *
 * step       one per step, written by one writeBuffer (what varies most comes last, so that a write can end early):
 *            header | admitted slots [maxSlots] | logit rows [maxLogitRows][row, kind] | rows [maxRows][slot, position]
 *            | deltas [maxDeltas][slot, index, block]
 * slots      [maxSlots][SLOT_STRIDE] state, sampling parameters and stop ids of each running sequence; floats as bits
 * history    [maxSlots][maxLen] token ids: prompt, then generated
 * blockTable [maxSlots][maxBlocksPerSeq] block ids
 * bias       [maxSlots][MAX_BIAS][id, f32 bits]
 * counts     [maxSlots][vocab] how often the slot generated the id; bit 31: the id is in its prompt
 * rows       [maxRows] vec4<u32>(slot, position, token, active): `begin` resolves the step's rows into it
 * samples    [maxLogitRows] sampled id, NO_TOKEN or REJECTED
 * masks      [maxSlots][ceil(vocab / 32)] bit id % 32 of word id / 32: the slot's grammar allows the id next
 * sums       [maxSlots][hidden] f32: of a slot whose prompt is averaged, what its rows so far sum up to
 * logprobs   [maxLogitRows][LOGPROB_STRIDE] logprob of the target (f32), its rank, MAX_TOP ids, MAX_TOP logprobs (f32)
 */
export const STEP_NUM_ROWS = 0;
export const STEP_NUM_LOGIT_ROWS = 1;
export const STEP_NUM_DELTAS = 2;
export const STEP_NUM_ADMITTED = 3;
const STEP_HEADER = 8;

/**
 * A row's position when the GPU must derive it: the slot's last known token. POSITION_FROM_SLOT - d, d from 1 to MAX_DRAFTS: that of
 * draft d, which follows the row of draft d - 1.
 */
export const POSITION_FROM_SLOT = 0xffffffff;
export const MAX_DRAFTS = 32;
/** A sample that there is none of: its row samples nothing, or is inactive. */
export const NO_TOKEN = 0xffffffff;
/** A sample that does not count: a draft before it was wrong. */
export const REJECTED = 0xfffffffe;

/** Kinds of logit row (bits). Those of a pooling engine are LOGIT_LAST or LOGIT_MEAN, and have no logits. */
export const LOGIT_SAMPLE = 1;
export const LOGIT_LOGPROBS = 2;
/** Its ids are held to the mask of its slot. */
export const LOGIT_MASKED = 4;
/** What the last norm gives for the row is wanted. */
export const LOGIT_LAST = 8;
/** The sum of that is wanted, over all rows of the row's sequence up to it, those of earlier steps included. */
export const LOGIT_MEAN = 16;

export const SLOT_LENGTH = 0;
export const SLOT_PROMPT_LENGTH = 1;
export const SLOT_DONE = 2;
export const SLOT_MAX_LENGTH = 3;
export const SLOT_MIN_LENGTH = 4;
export const SLOT_SEED_LOW = 5;
export const SLOT_SEED_HIGH = 6;
export const SLOT_CHOICE = 7;
export const SLOT_TEMPERATURE = 8;
export const SLOT_TOP_P = 9;
export const SLOT_MIN_P = 10;
export const SLOT_TOP_K = 11;
export const SLOT_REPETITION = 12;
export const SLOT_PRESENCE = 13;
export const SLOT_FREQUENCY = 14;
export const SLOT_NUM_STOPS = 15;
export const SLOT_NUM_BIAS = 16;
/** How many top logprobs rows of this slot want. */
export const SLOT_NUM_TOP = 17;
/** Which LoRA adapter the slot's rows go through: its place in the adapters' buffers plus 1; 0 = none. */
export const SLOT_LORA = 18;
/** How many of SLOT_STOPS, from the first on, are not sampled below SLOT_MIN_LENGTH. */
export const SLOT_NUM_BARRED = 19;
export const SLOT_STOPS = 32;
export const SLOT_STRIDE = SLOT_STOPS + MAX_STOP_IDS + MAX_MARKS;

export const LOGPROB_STRIDE = 2 + 2 * MAX_TOP_LOGPROBS;

export interface TableSizes {
  readonly maxRows: number;
  readonly maxLogitRows: number;
  readonly maxDeltas: number;
  readonly maxSlots: number;
  readonly maxLen: number;
  readonly maxBlocksPerSeq: number;
  readonly vocabSize: number;
  /** Left out where there are no LoRA adapters. */
  readonly lora?: LoraSizes;
}

/** What the buffers of LoRA adapters are made for. */
export interface LoraSizes {
  /** Adapters at once. */
  readonly adapters: number;
  /** Rank of each, at most. */
  readonly rank: number;
}

/** Words of one slot's grammar mask. */
export function maskWords({ vocabSize }: Pick<TableSizes, 'vocabSize'>): number {
  return Math.ceil(vocabSize / 32);
}

/** Word offsets of the sections of the step descriptor. */
export function stepLayout(s: TableSizes): {
  rows: number;
  logits: number;
  deltas: number;
  admitted: number;
  words: number;
} {
  const admitted = STEP_HEADER;
  const logits = admitted + s.maxSlots;
  const rows = logits + 2 * s.maxLogitRows;
  const deltas = rows + 2 * s.maxRows;
  return { admitted, logits, rows, deltas, words: deltas + 3 * s.maxDeltas };
}

/** The numbers above as constants for shaders that include `lib/tables.wgsl`. */
export function tableConstants(s: TableSizes): Record<string, number> {
  const at = stepLayout(s);
  return {
    STEP_NUM_ROWS,
    STEP_NUM_LOGIT_ROWS,
    STEP_NUM_DELTAS,
    STEP_NUM_ADMITTED,
    STEP_ROWS: at.rows,
    STEP_LOGITS: at.logits,
    STEP_DELTAS: at.deltas,
    STEP_ADMITTED: at.admitted,
    POSITION_FROM_SLOT,
    MAX_DRAFTS,
    NO_TOKEN,
    REJECTED,
    LOGIT_SAMPLE,
    LOGIT_LOGPROBS,
    LOGIT_MASKED,
    LOGIT_LAST,
    LOGIT_MEAN,
    SLOT_LENGTH,
    SLOT_PROMPT_LENGTH,
    SLOT_DONE,
    SLOT_MAX_LENGTH,
    SLOT_MIN_LENGTH,
    SLOT_SEED_LOW,
    SLOT_SEED_HIGH,
    SLOT_CHOICE,
    SLOT_TEMPERATURE,
    SLOT_TOP_P,
    SLOT_MIN_P,
    SLOT_TOP_K,
    SLOT_REPETITION,
    SLOT_PRESENCE,
    SLOT_FREQUENCY,
    SLOT_NUM_STOPS,
    SLOT_NUM_BIAS,
    SLOT_NUM_TOP,
    SLOT_LORA,
    SLOT_NUM_BARRED,
    SLOT_STOPS,
    SLOT_STRIDE,
    LOGPROB_STRIDE,
    MAX_TOP: MAX_TOP_LOGPROBS,
    MAX_BIAS: MAX_LOGIT_BIAS,
    MAX_LEN: s.maxLen,
    MAX_BLOCKS_PER_SEQ: s.maxBlocksPerSeq,
    VOCAB: s.vocabSize,
    MASK_WORDS: maskWords(s),
  };
}
