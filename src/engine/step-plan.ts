import type { Sequence } from './sequence.ts';
import { LOGIT_LAST, LOGIT_LOGPROBS, LOGIT_MASKED, LOGIT_MEAN, LOGIT_SAMPLE } from './tables.ts';

/** Consecutive rows of one sequence in one step: a chunk of known tokens for a prefill; one row for a decode, and one for each draft. */
export interface SequenceRows {
  readonly sequence: Sequence;
  /** The sequence's run when this was planned. */
  readonly run: number;
  readonly slot: number;
  /** Number of the first row in the step. */
  readonly firstRow: number;
  /** Position of the first row; row i is at start + i. While drafts are in flight a decode may be further on: as far as they are right. */
  readonly start: number;
  readonly count: number;
  /**
   * The row's token may be one that only the GPU knows: its position is POSITION_FROM_SLOT, the slot's last known
   * token; drafts follow it. A prefill's positions are explicit.
   */
  readonly decode: boolean;
  /**
   * Entry of `logitRows` that samples the sequence's next token, followed by those of drafts, or that gives its embedding; null in a chunk
   * that ends before the last known token.
   */
  readonly sample: number | null;
}

/** A row whose logits are wanted, or the last one in this step of a sequence that is pooled. */
export interface LogitRow {
  readonly sequence: Sequence;
  /** Number of the row in the step. */
  readonly row: number;
  /** Position of the row, as `SequenceRows` has it. Its logits are about the token at position + 1. */
  readonly position: number;
  /**
   * LOGIT_SAMPLE, LOGIT_LOGPROBS or both, and LOGIT_MASKED beside LOGIT_SAMPLE. LOGIT_LOGPROBS alone: logprobs of the prompt's token at
   * position + 1. LOGIT_LAST or LOGIT_MEAN alone: of a sequence that is pooled.
   */
  readonly kind: number;
}

/** `blockTable[slot][index] = block`, from this step on. */
export interface TableDelta {
  readonly slot: number;
  readonly index: number;
  readonly block: number;
}

/** The ids that a slot's grammar allows in this step; layout in tables.ts. */
export interface SlotMask {
  readonly slot: number;
  readonly mask: Uint32Array<ArrayBuffer>;
}

/** A sequence that gets a slot. The slot is told apart, since a sequence that is cancelled before the step is submitted has none. */
export interface Admitted {
  readonly sequence: Sequence;
  readonly slot: number;
}

/** Everything one step computes, as data. Decode rows come first: rows 0 to numDecodeRows - 1. */
export interface StepPlan {
  /** Counts from 0, without holes. */
  readonly step: number;
  /** Sequences that got a slot in this step: the runner writes their slot state and history before it. */
  readonly admitted: readonly Admitted[];
  readonly rows: readonly SequenceRows[];
  readonly numRows: number;
  readonly numDecodeRows: number;
  /** Rows of drafts; they count among the decode rows. */
  readonly numDraftRows: number;
  /** Ascending by row. */
  readonly logitRows: readonly LogitRow[];
  /** At most one for each entry of the block table. */
  readonly deltas: readonly TableDelta[];
  /** One for each row that samples under a grammar. */
  readonly masks: readonly SlotMask[];
  /** Sequences preempted since the plan before. */
  readonly preempted: number;
}

export interface StepLimits {
  readonly maxNumBatchedTokens: number;
  readonly maxLogitRows: number;
}

/** A plan while the scheduler fills it. */
export class PlanBuilder {
  readonly admitted: Admitted[] = [];
  readonly #limits: StepLimits;
  readonly #rows: SequenceRows[] = [];
  readonly #logitRows: LogitRow[] = [];
  readonly #deltas: TableDelta[] = [];
  readonly #masks: SlotMask[] = [];
  #numRows = 0;
  #numDecodeRows = 0;
  #numDraftRows = 0;

  constructor(limits: StepLimits) {
    this.#limits = limits;
  }

  get numRows(): number {
    return this.#numRows;
  }

  get rowsLeft(): number {
    return this.#limits.maxNumBatchedTokens - this.#numRows;
  }

  get logitRowsLeft(): number {
    return this.#limits.maxLogitRows - this.#logitRows.length;
  }

  has(sequence: Sequence): boolean {
    return this.#rows.some((rows) => rows.sequence === sequence);
  }

  /** Plans the next `count` positions of a running sequence that has blocks for them, and moves it on. Of a decode all but the first are drafts. */
  add(sequence: Sequence, count: number): void {
    const { run, slot, scheduled: start, sampling } = sequence;
    if (slot === null) throw new Error(`request ${sequence.request}: rows planned for a sequence without a slot`);
    const end = start + count;
    const decode = start >= sequence.admittedLength;
    const firstRow = this.#numRows;
    const logit = (position: number, kind: number) =>
      this.#logitRows.push({ sequence, row: firstRow + position - start, position, kind });

    if (sequence.scoring) {
      for (let p = Math.max(start, sequence.scored); p < Math.min(end, sequence.promptLength - 1); p++) {
        logit(p, LOGIT_LOGPROBS);
      }
    }
    const ends = end >= sequence.admittedLength;
    const sample = ends ? this.#logitRows.length : null;
    if (sequence.pooling !== null) {
      if (sequence.pooling.type === 'MEAN') logit(end - 1, LOGIT_MEAN);
      else if (ends) logit(end - 1, LOGIT_LAST);
      if (ends) sequence.pending++;
    } else if (ends) {
      const mask = sequence.constraint?.take(sequence.generated) ?? null;
      const masked = mask === null ? 0 : LOGIT_MASKED;
      const kind = LOGIT_SAMPLE | (sampling.logprobs === null ? 0 : LOGIT_LOGPROBS) | masked;
      for (let p = decode ? start : end - 1; p < end; p++) logit(p, kind);
      if (mask !== null) this.#masks.push({ slot, mask });
      sequence.pending++;
    }
    this.#rows.push({ sequence, run, slot, firstRow, start, count, decode, sample });
    for (const index of sequence.stale) this.#deltas.push({ slot, index, block: sequence.blocks[index]! });
    sequence.stale = [];
    sequence.scheduled = decode ? start + 1 : end;
    this.#numRows += count;
    if (decode) {
      sequence.drafts += count - 1;
      this.#numDecodeRows += count;
      this.#numDraftRows += count - 1;
    }
  }

  build(step: number, preempted: number): StepPlan {
    return {
      step,
      admitted: this.admitted,
      rows: this.#rows,
      numRows: this.#numRows,
      numDecodeRows: this.#numDecodeRows,
      numDraftRows: this.#numDraftRows,
      logitRows: this.#logitRows,
      deltas: this.#deltas,
      masks: this.#masks,
      preempted,
    };
  }
}
