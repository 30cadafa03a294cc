import type { SamplingParams } from '../protocol/sampling.ts';
import type { StopRules } from './constraint.ts';
import * as T from './tables.ts';

/** What a slot needs to know of the sequence that takes it. */
export interface SlotInput {
  readonly choice: number;
  readonly promptLength: number;
  /** Prompt and generated tokens known so far. */
  readonly length: number;
  /** Length at which the GPU ends the sequence: prompt + max_tokens, at most the context. */
  readonly maxLength: number;
  readonly sampling: SamplingParams;
  readonly stops: StopRules;
  /** 0 = no LoRA adapter. */
  readonly lora: number;
}

/** The words of one entry of the `slots` table (layout in tables.ts). */
export function packSlot(input: SlotInput): Uint32Array<ArrayBuffer> {
  const { sampling: s, stops } = input;
  const words = new Uint32Array(T.SLOT_STRIDE);
  const floats = new Float32Array(words.buffer);
  words[T.SLOT_LENGTH] = input.length;
  words[T.SLOT_PROMPT_LENGTH] = input.promptLength;
  words[T.SLOT_DONE] = 0;
  words[T.SLOT_MAX_LENGTH] = input.maxLength;
  words[T.SLOT_MIN_LENGTH] = Math.min(input.promptLength + stops.minTokens, 0xffff_ffff);
  words[T.SLOT_SEED_LOW] = s.seed[0];
  words[T.SLOT_SEED_HIGH] = s.seed[1];
  words[T.SLOT_CHOICE] = input.choice;
  floats[T.SLOT_TEMPERATURE] = s.temperature;
  floats[T.SLOT_TOP_P] = s.topP;
  floats[T.SLOT_MIN_P] = s.minP;
  words[T.SLOT_TOP_K] = s.topK;
  floats[T.SLOT_REPETITION] = s.repetitionPenalty;
  floats[T.SLOT_PRESENCE] = s.presencePenalty;
  floats[T.SLOT_FREQUENCY] = s.frequencyPenalty;
  words[T.SLOT_NUM_STOPS] = stops.ids.length;
  words[T.SLOT_NUM_BARRED] = stops.barred;
  words[T.SLOT_NUM_BIAS] = s.logitBias.length;
  words[T.SLOT_NUM_TOP] = Math.max(s.logprobs ?? 0, s.promptLogprobs ?? 0);
  words[T.SLOT_LORA] = input.lora;
  words.set(stops.ids, T.SLOT_STOPS);
  return words;
}

/** The words of one slot's entries of the `bias` table: id, f32 bits. */
export function packBias(sampling: SamplingParams): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(2 * sampling.logitBias.length);
  const floats = new Float32Array(words.buffer);
  for (const [i, [id, bias]] of sampling.logitBias.entries()) {
    words[2 * i] = id;
    floats[2 * i + 1] = bias;
  }
  return words;
}
