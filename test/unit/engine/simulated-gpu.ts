import type { StopRules } from '../../../src/engine/constraint.ts';
import type { Sequence } from '../../../src/engine/sequence.ts';
import type { StepPlan } from '../../../src/engine/step-plan.ts';
import { LOGIT_MEAN, LOGIT_SAMPLE, NO_TOKEN, REJECTED } from '../../../src/engine/tables.ts';
import type { PoolingType } from '../../../src/protocol/pooling.ts';
import type { SamplingParams } from '../../../src/protocol/sampling.ts';

export const VOCAB = 11;
/** Values of an embedding. */
export const HIDDEN = 8;
const EVERY_ID = Uint32Array.of(0xffffffff);

/** What a position's K and V hold here: a number made of its token and of all K and V before it. */
function attend(token: number, before: readonly number[]): number {
  let state = Math.imul(token + 1, 0x9e3779b1);
  for (const value of before) state = Math.imul(state ^ value, 0x85ebca6b) + 0x27d4eb2f;
  return (state ^ (state >>> 15)) >>> 0;
}

/** What a LoRA adapter does here: every token is read as another one. */
function loraShift(name = ''): number {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 9973, 0) * 1000;
}

/** The token that a position's state chooses as number `offset` of its choice: never a stop id before `minTokens`, and one that the mask allows. */
function choose(
  state: number,
  offset: number,
  { ids, barred, minTokens }: StopRules,
  mask: Uint32Array = EVERY_ID,
): number {
  let token = state % VOCAB;
  while ((offset < minTokens && ids.slice(0, barred).includes(token)) || ((mask[0]! >> token) & 1) === 0)
    token = (token + 1) % VOCAB;
  return token;
}

/** What a sequence must give, computed with no scheduler, no blocks and no cache. */
export function reference(
  prompt: readonly number[],
  sampling: SamplingParams,
  maxModelLen: number,
  loraName?: string,
): { tokens: number[]; finish: 'stop' | 'length' } {
  const states: number[] = [];
  const shift = loraShift(loraName);
  for (const token of prompt) states.push(attend(token + shift, states));
  const tokens: number[] = [];
  for (;;) {
    const { stopIds: ids, minTokens } = sampling;
    const token = choose(states.at(-1)!, tokens.length, { ids, barred: ids.length, minTokens });
    const stops = tokens.length >= minTokens && ids.includes(token);
    tokens.push(token);
    if (stops) return { tokens, finish: 'stop' };
    if (tokens.length >= sampling.maxTokens || prompt.length + tokens.length >= maxModelLen)
      return { tokens, finish: 'length' };
    states.push(attend(token + shift, states));
  }
}

/** What the last norm gives for a state. */
function normed(state: number, width: number): number[] {
  return Array.from({ length: width }, (_, d) => ((state >>> (3 * d)) & 0xff) - 100);
}

/** What a prompt's pooling must give before it is divided or normalized, with no scheduler, no blocks and no cache. */
export function pooledReference(prompt: readonly number[], type: PoolingType, width = HIDDEN): number[] {
  const states: number[] = [];
  for (const token of prompt) states.push(attend(token, states));
  if (type === 'LAST') return normed(states.at(-1)!, width);
  return states.map((state) => normed(state, width)).reduce((sums, row) => sums.map((sum, d) => sum + row[d]!));
}

/** What a lookup gives for the token after `sampled`: mostly that token, at times another, at times nothing. */
function draft(number: number, sampled: number): number | null {
  const kind = number % 8;
  if (kind === 0) return null;
  return kind < 3 || sampled === REJECTED ? number % VOCAB : sampled;
}

interface Slot {
  readonly sequence: Sequence;
  readonly history: number[];
  readonly promptLength: number;
  readonly maxLength: number;
  readonly stops: StopRules;
  done: boolean;
}

/**
 * The GPU's side of a step, as the tables define it: slots, block tables and paged K and V. It knows the host's state
 * only where the runner uploads it, and reads K and V through the block table like a shader does, so that a wrong
 * table, a block in two hands or a wrong cache hit changes the tokens. Its drafts are right at random.
 */
export class SimulatedGpu {
  readonly #slots: (Slot | undefined)[] = [];
  readonly #tables: number[][] = [];
  readonly #pool: Float64Array;
  readonly #blockSize: number;
  /** Of each slot whose prompt is averaged. */
  readonly #sums: number[][] = [];
  /** Of the last step: what each logit row of a sequence that is pooled gives. */
  pooled: readonly Float32Array[] = [];

  constructor(
    totalBlocks: number,
    blockSize: number,
    private readonly width = HIDDEN,
  ) {
    this.#blockSize = blockSize;
    this.#pool = new Float64Array(totalBlocks * blockSize).fill(Number.NaN);
  }

  /** Runs a step in queue order; returns one sample per logit row. */
  run(plan: StepPlan): number[] {
    for (const { sequence, slot } of plan.admitted) {
      const { tokens, promptLength, maxLength, stops } = sequence;
      this.#slots[slot] = { sequence, history: [...tokens], promptLength, maxLength, stops, done: false };
      this.#tables[slot] = [];
    }
    for (const { slot, index, block } of plan.deltas) this.#tables[slot]![index] = block;

    const masks = new Map(plan.masks.map(({ slot, mask }) => [slot, mask]));
    const samples = plan.logitRows.map(() => NO_TOKEN);
    const pooled = plan.logitRows.map(() => new Float32Array(this.width));
    // All sequences of a step run side by side: none may read what another writes in the same step.
    const writes: [number, number][] = [];
    for (const { slot: at, start, count, decode, firstRow } of plan.rows) {
      const slot = this.#slots[at]!;
      if (decode && slot.done) continue;
      const first = decode ? slot.history.length - 1 : start;
      const states = Array.from({ length: first }, (_, p) => this.#pool[this.#cell(at, p)]!);
      // What the row computes: the history's token, or a draft, which may be wrong; null = no draft was found.
      let token: number | null = slot.history[first]!;
      let right = true;
      for (let i = 0; i < count && token !== null; i++) {
        const position = first + i;
        const state = attend(token + loraShift(slot.sequence.lora?.name), states);
        if (states.some(Number.isNaN)) throw new Error(`position ${position} reads K and V that nobody wrote`);
        states.push(state);
        writes.push([this.#cell(at, position), state]);
        const wanted = plan.logitRows.findIndex((l) => l.row === firstRow + i);
        if (slot.sequence.pooling !== null) {
          const row = normed(state, this.width);
          const before = position === 0 ? row.map(() => 0) : (this.#sums[at] ?? row.map(() => Number.NaN));
          this.#sums[at] = row.map((value, d) => before[d]! + value);
          const mean = (plan.logitRows[wanted]?.kind ?? 0) & LOGIT_MEAN;
          if (wanted >= 0) pooled[wanted] = Float32Array.from(mean ? this.#sums[at]! : row);
        }
        if (wanted >= 0 && plan.logitRows[wanted]!.kind & LOGIT_SAMPLE)
          samples[wanted] = right && !slot.done ? this.#sample(slot, state, masks.get(at)) : REJECTED;
        if (decode) {
          token = position + 1 < slot.maxLength - 1 ? draft(plan.step + state, samples[wanted]!) : null;
          right &&= token === samples[wanted];
        } else token = slot.history[position + 1] ?? null;
      }
    }
    for (const [cell, state] of writes) this.#pool[cell] = state;
    this.pooled = pooled;
    return samples;
  }

  /** States of one block's positions; NaN where nothing was written. */
  readBlock(block: number): number[] {
    return [...this.#pool.subarray(block * this.#blockSize, (block + 1) * this.#blockSize)];
  }

  writeBlock(block: number, states: readonly number[]): void {
    this.#pool.set(states, block * this.#blockSize);
  }

  #sample(slot: Slot, state: number, mask: Uint32Array | undefined): number {
    if (slot.sequence.constrained !== (mask !== undefined)) throw new Error('a mask too many or too few');
    const { ids, barred, minTokens } = slot.stops;
    const offset = slot.history.length - slot.promptLength;
    const token = choose(state, offset, slot.stops, mask);
    slot.history.push(token);
    // Below minTokens only those are sampled that are not barred.
    slot.done = ids.slice(offset < minTokens ? barred : 0).includes(token) || slot.history.length >= slot.maxLength;
    return token;
  }

  #cell(slot: number, position: number): number {
    const block = this.#tables[slot]![Math.floor(position / this.#blockSize)];
    if (block === undefined) throw new Error(`slot ${slot} has no block for position ${position}`);
    return block * this.#blockSize + (position % this.#blockSize);
  }
}
