import type { FinishReason } from '../protocol/generate.ts';
import { MAX_EVENT_BLOCKS } from '../protocol/kv-events.ts';
import { EngineError } from './api.ts';
import { endsAt } from './constraint.ts';
import { drafted, rested, wantedDrafts } from './drafting.ts';
import type { BlockManager } from './kv/block-manager.ts';
import type { Sequence, SequenceUpdate } from './sequence.ts';
import { PlanBuilder, type SequenceRows, type StepLimits, type StepPlan } from './step-plan.ts';
import { NO_TOKEN, REJECTED } from './tables.ts';

export type { StepPlan };

export interface SchedulerOptions extends StepLimits {
  readonly blockManager: BlockManager;
  /** Sequences that run at once; the GPU has a slot for each. */
  readonly maxNumSeqs: number;
  /** Most tokens of a sequence, prompt included. */
  readonly maxModelLen: number;
  /** Most sequences that wait for their first step. */
  readonly maxWaiting: number;
  /** Most drafts of a sequence in one step; 0 = none. */
  readonly maxDrafts: number;
}

/**
 * Decides what each step computes. Pure: plans depend on the order of calls and on nothing else.
 *
 * The engine keeps D steps in flight: it calls `consume` for step s - D right before `schedule` for step s. A sequence
 * whose last samples are not read back is scheduled all the same, since the GPU knows them. While drafts are in flight it also
 * knows alone how far the sequence is: blocks are there for the farthest, and what is scheduled is counted for the nearest.
 *
 * In a step: decodes in admission order, then chunks of running prefills, then new sequences, first come first served.
 * Out of blocks, the newest running sequence is preempted: it goes to the front of the queue and is computed again.
 * Each order is one of priorities first (vLLM's: lower goes first), so that those of the highest number are preempted first.
 * A sequence under a grammar samples once the mask of the token after its last one is there (`Constraint.mask`): it sits out
 * the steps until then, before its admission too. Where reasoning before the grammar begins or ends, the GPU needs other rules of it: the
 * sequence gives its slot back, as one that is preempted, and is the first to get one.
 * Held sequences (whose prompt's KV another engine waits for) need no more blocks once admitted, and are not preempted:
 * that would free nothing that was promised.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #blocks: BlockManager;
  readonly #waiting: Sequence[] = [];
  // By priority, then in admission order.
  readonly #running: Sequence[] = [];
  readonly #requests = new Map<string, readonly Sequence[]>();
  readonly #freeSlots: number[];
  #scheduledSteps = 0;
  #consumedSteps = 0;
  #preemptions = 0;
  #reportedPreemptions = 0;

  /** Throws RangeError when the bounds do not fit each other. */
  constructor(options: SchedulerOptions) {
    const { maxNumSeqs, maxNumBatchedTokens, maxLogitRows, blockManager } = options;
    requireMore('max-num-batched-tokens', maxNumBatchedTokens, 'max-num-seqs', maxNumSeqs + 1);
    requireMore('maxLogitRows', maxLogitRows, 'max-num-seqs', maxNumSeqs);
    // A chunk's blocks are one event.
    requireMore('block-size', blockManager.blockSize, 'max-num-batched-tokens', maxNumBatchedTokens / MAX_EVENT_BLOCKS);
    this.#options = options;
    this.#blocks = blockManager;
    this.#freeSlots = Array.from({ length: maxNumSeqs }, (_, i) => maxNumSeqs - 1 - i);
  }

  get numRunning(): number {
    return this.#running.length;
  }

  get numWaiting(): number {
    return this.#waiting.length;
  }

  /** Preemptions so far. */
  get preemptions(): number {
    return this.#preemptions;
  }

  /**
   * Queues the sequences of one request: all or none. Throws EngineError `invalid_request` when they can never run
   * here, `overloaded` when the queue is full.
   */
  add(sequences: readonly Sequence[]): void {
    const { maxModelLen, maxWaiting } = this.#options;
    const { totalBlocks, blockSize } = this.#blocks;
    const request = sequences[0]?.request;
    if (request === undefined) return;
    const refuse = (why: string): never => {
      throw new EngineError('invalid_request', `request ${request}: ${why}`);
    };
    if (this.#requests.has(request)) refuse('its id is in use; give every request its own');
    if (new Set(sequences.map((s) => s.choice)).size < sequences.length) refuse('it names a choice twice');
    for (const { promptLength, tokens, maxLength, choice, pooling } of sequences) {
      const most = pooling === null ? maxModelLen - 1 : maxModelLen;
      if (promptLength > most)
        refuse(
          `its prompt has ${promptLength} tokens, and a context of ${maxModelLen} holds ${most} of them; shorten it`,
        );
      if (tokens.length >= maxLength) {
        refuse(`choice ${choice} has all of its ${maxLength - promptLength} tokens; leave finished choices out`);
      }
      // The last token of a sequence is never computed.
      const needed = Math.ceil((maxLength - 1) / blockSize);
      if (needed > totalBlocks) {
        refuse(
          `its ${maxLength} tokens need ${needed} KV blocks of ${blockSize}, and the pool has ${totalBlocks}; lower max_tokens or shorten the prompt`,
        );
      }
    }
    if (this.#waiting.length + sequences.length > maxWaiting) {
      throw new EngineError(
        'overloaded',
        `request ${request}: ${this.#waiting.length} sequences wait and ${maxWaiting} may; send it to another node, or later`,
      );
    }
    this.#requests.set(request, sequences);
    for (const sequence of sequences) insertLast(this.#waiting, sequence);
  }

  /** Ends a request: it is in no later step, and its blocks are free. Returns the sequences that this ended. */
  cancel(request: string): Sequence[] {
    const sequences = this.#requests.get(request) ?? [];
    const live = sequences.filter((s) => s.status !== 'finished');
    for (const sequence of live) this.#end(sequence);
    for (const sequence of sequences) if (sequence.held) this.#blocks.free(sequence);
    this.#requests.delete(request);
    return live;
  }

  /** The held sequence of a request, from `add` until `cancel`. */
  held(request: string): Sequence | undefined {
    return this.#requests.get(request)?.find((s) => s.held);
  }

  /** The next step; null when nothing can be computed before an earlier step is consumed or a request comes. */
  schedule(): StepPlan | null {
    const plan = new PlanBuilder(this.#options);
    const preemptions = this.#preemptions;
    this.#scheduleDecodes(plan);
    if (this.#schedulePrefills(plan) && this.#preemptions === preemptions) this.#admit(plan);
    if (plan.numRows === 0) return null;
    const preempted = this.#preemptions - this.#reportedPreemptions;
    this.#reportedPreemptions = this.#preemptions;
    return plan.build(this.#scheduledSteps++, preempted);
  }

  /**
   * Takes the results of the oldest step not consumed. samples[i] is the token that plan.logitRows[i] sampled, REJECTED after a
   * draft that was wrong, NO_TOKEN where there was none; entries of rows that sample nothing, and of sequences that have ended, are
   * not looked at. Updates come in row order.
   */
  consume(plan: StepPlan, samples: ArrayLike<number>): SequenceUpdate[] {
    if (plan.step !== this.#consumedSteps || samples.length < plan.logitRows.length) {
      throw new EngineError(
        'internal',
        `step ${plan.step} with ${samples.length} samples was consumed where step ${this.#consumedSteps} with ${plan.logitRows.length} was due`,
      );
    }
    this.#consumedSteps++;
    const updates: SequenceUpdate[] = [];
    for (const rows of plan.rows) {
      const { sequence, run, start, count, decode, sample } = rows;
      if (sequence.status === 'finished') continue;
      const end = start + count;
      if (run < sequence.validRun) {
        if (sample !== null) taken(rows);
        continue;
      }
      if (sequence.scoring) sequence.scored = Math.max(sequence.scored, Math.min(end, sequence.promptLength - 1));
      const update = this.#append(rows, samples);
      if (sequence.run === run) {
        sequence.computed = decode ? sequence.tokens.length - 1 : end;
        if (decode && update) sequence.scheduled += update.tokens.length - 1;
        this.#blocks.register(sequence);
      }
      if (update?.finish) this.#end(sequence);
      else if (update && follows(sequence, update.tokens)) {
        if (sequence.status === 'running') this.#requeue(sequence);
        sequence.validRun = sequence.run;
      }
      if (update) updates.push(update);
    }
    return updates;
  }

  #scheduleDecodes(plan: PlanBuilder): void {
    const share = this.#draftShare();
    for (let i = 0; i < this.#running.length; i++) {
      const sequence = this.#running[i]!;
      if (!sequence.canDecode) continue;
      while (!this.#blocks.grow(sequence, sequence.reach(0))) {
        const newest = this.#newest();
        this.#preempt(newest);
        if (newest === sequence) return;
      }
      const drafts = this.#drafts(sequence, share);
      if (drafts === 0) sequence.drafting = rested(sequence.drafting);
      plan.add(sequence, 1 + drafts);
    }
  }

  /** Drafts that a decode may have: rows for drafts are shared out evenly, those that other sequences may need are not touched. */
  #draftShare(): number {
    const { maxDrafts, maxNumBatchedTokens, maxLogitRows, maxNumSeqs } = this.#options;
    const decodes = this.#running.filter(
      (s) => s.canDecode && !s.constrained && wantedDrafts(s.drafting, s.drafts, maxDrafts) > 0,
    ).length;
    // A prompt gets at least one row, as without drafts, and a row with logits.
    const spare = Math.min(maxNumBatchedTokens - maxNumSeqs - 1, maxLogitRows - maxNumSeqs);
    return Math.max(0, Math.min(maxDrafts, Math.floor(spare / Math.max(1, decodes))));
  }

  /** How many drafts the sequence gets beside its known token, with blocks for them: none where no block is free, or under a grammar, whose mask is of one token. */
  #drafts(sequence: Sequence, share: number): number {
    if (sequence.constrained) return 0;
    // The last token is not computed, nor is what would follow it.
    const useful = sequence.maxLength - 1 - sequence.virtualLength;
    const drafts = Math.min(wantedDrafts(sequence.drafting, sequence.drafts, share), useful);
    return this.#blocks.grow(sequence, sequence.reach(drafts)) ? drafts : 0;
  }

  /** False when a running prefill got nothing: then nothing newer may take its place, but what has all its blocks goes on. */
  #schedulePrefills(plan: PlanBuilder): boolean {
    let starved = false;
    for (let i = 0; i < this.#running.length; i++) {
      const sequence = this.#running[i]!;
      if (sequence.prefillLeft === 0 || (starved && !sequence.held)) continue;
      const { scheduled, admittedLength } = sequence;
      const room = () => (sequence.blocks.length + this.#blocks.freeBlocks) * this.#blocks.blockSize - scheduled;
      while (room() === 0) {
        const newest = this.#newest();
        if (newest === sequence || plan.has(newest)) break;
        this.#preempt(newest);
      }
      const count = Math.min(chunk(plan, sequence, scheduled, admittedLength), room());
      if (count === 0) {
        starved = true;
        continue;
      }
      this.#blocks.grow(sequence, scheduled + count);
      plan.add(sequence, count);
    }
    return !starved;
  }

  /** The sequence to preempt; asked while one that may be preempted runs. */
  #newest(): Sequence {
    return this.#running.findLast((s) => !s.held)!;
  }

  #admit(plan: PlanBuilder): void {
    const { maxNumSeqs } = this.#options;
    // A sequence that waits for a block, or for its mask, lets others pass; looking for blocks of maxNumSeqs bounds the work of a step.
    let passed = 0;
    let at = 0;
    while (passed < maxNumSeqs && this.#running.length < maxNumSeqs && plan.rowsLeft > 0) {
      const sequence = this.#waiting[at];
      // Samples of a preempted sequence must be read back first: they are part of what it computes again.
      if (!sequence || sequence.pending > 0) return;
      if (!sequence.canSample) {
        at++;
        continue;
      }
      const hits = this.#blocks.match(sequence);
      if (this.#isBeingComputed(sequence, hits.length)) {
        passed++;
        at++;
        continue;
      }
      const length = sequence.tokens.length;
      const cached = hits.length * this.#blocks.blockSize;
      const count = chunk(plan, sequence, cached, length);
      if (count === 0 || !this.#blocks.admit(sequence, hits, sequence.held ? length : cached + count)) return;
      this.#waiting.splice(at, 1);
      insertLast(this.#running, sequence);
      sequence.status = 'running';
      const slot = this.#freeSlots.pop()!;
      sequence.slot = slot;
      sequence.admittedLength = length;
      sequence.scheduled = cached;
      sequence.computed = cached;
      sequence.cachedTokens ??= Math.min(cached, sequence.promptLength);
      plan.admitted.push({ sequence, slot });
      plan.add(sequence, count);
    }
  }

  /** The block after the sequence's cached ones is on its way in a running sequence: waiting for it beats computing it. */
  #isBeingComputed(sequence: Sequence, index: number): boolean {
    if (!sequence.readsCache || (index + 1) * this.#blocks.blockSize >= sequence.tokens.length) return false;
    const hash = sequence.hashes[index]?.blockHash;
    if (hash === undefined) return false;
    return this.#running.some((other) => other.registered <= index && other.hashes[index]?.blockHash === hash);
  }

  /** Takes the tokens that a step sampled for a sequence: one, and one more for each draft that was right. One that is pooled ends without any. */
  #append(rows: SequenceRows, samples: ArrayLike<number>): SequenceUpdate | null {
    const { sequence, sample } = rows;
    if (sample === null) return null;
    const drafts = taken(rows);
    if (sequence.pooling !== null) return { sequence, sample, tokens: [], drafted: 0, finish: 'length' };
    const sampled = Array.from({ length: 1 + drafts }, (_, i) => samples[sample + i]!);
    const accepted = sampled.findIndex((token) => token === NO_TOKEN || token === REJECTED);
    if (accepted === 0) throw stopsDiffer(sequence, 'ended it at');
    const tokens = accepted < 0 ? sampled : sampled.slice(0, accepted);
    if (drafts > 0) sequence.drafting = drafted(sequence.drafting, tokens.length - 1);
    const { stopIds } = sequence.sampling;
    const rules = sequence.stops;
    let finish: FinishReason | null = null;
    for (const token of tokens) {
      if (finish !== null) throw stopsDiffer(sequence, 'went on at');
      const stops = endsAt(rules, token, sequence.generated) && stopIds.includes(token);
      sequence.tokens.push(token);
      finish = stops ? 'stop' : sequence.tokens.length >= sequence.maxLength ? 'length' : null;
    }
    return {
      sequence,
      sample,
      tokens,
      drafted: sampled.filter((token) => token !== NO_TOKEN).length - 1,
      ...(finish === null ? {} : { finish }),
      ...(finish === 'stop' ? { stopId: tokens.at(-1)! } : {}),
    };
  }

  #preempt(sequence: Sequence): void {
    this.#requeue(sequence);
    this.#preemptions++;
  }

  /** Takes a running sequence's slot and blocks: it is computed again as soon as there are others. */
  #requeue(sequence: Sequence): void {
    this.#stop(sequence);
    sequence.status = 'waiting';
    sequence.run++;
    sequence.scheduled = 0;
    sequence.computed = 0;
    sequence.registered = 0;
    sequence.admittedLength = 0;
    const first = this.#waiting.findIndex(({ priority }) => priority >= sequence.priority);
    this.#waiting.splice(first < 0 ? this.#waiting.length : first, 0, sequence);
  }

  #end(sequence: Sequence): void {
    if (sequence.status === 'waiting') this.#waiting.splice(this.#waiting.indexOf(sequence), 1);
    else this.#stop(sequence);
    sequence.status = 'finished';
    const choices = this.#requests.get(sequence.request);
    if (choices?.every((s) => s.status === 'finished' && !s.held)) this.#requests.delete(sequence.request);
  }

  /** Steps in flight may still write to what is freed here: harmless, since a new owner writes later in queue order. */
  #stop(sequence: Sequence): void {
    this.#running.splice(this.#running.indexOf(sequence), 1);
    // What is left of a held one is its full blocks; the last, partial one nobody can use.
    const { blockSize } = this.#blocks;
    if (sequence.held) this.#blocks.shrink(sequence, Math.floor(sequence.computed / blockSize) * blockSize);
    else this.#blocks.free(sequence);
    this.#freeSlots.push(sequence.slot!);
    sequence.slot = null;
  }
}

/** A step that sampled for a sequence is read back; returns how many drafts it had. */
function taken({ sequence, count, decode }: SequenceRows): number {
  const drafts = decode ? count - 1 : 0;
  sequence.pending--;
  sequence.drafts -= drafts;
  return drafts;
}

/** Whether these tokens, the last ones of the sequence, begin or end reasoning before its grammar. */
function follows({ constraint }: Sequence, tokens: readonly number[]): boolean {
  return constraint !== null && tokens.map((token) => constraint.follow(token)).includes(true);
}

/** Puts a sequence behind those of its priority. */
function insertLast(queue: Sequence[], sequence: Sequence): void {
  queue.splice(queue.findLastIndex(({ priority }) => priority <= sequence.priority) + 1, 0, sequence);
}

/** How many positions from `start` a prefill up to `end` may take in this step, by rows and logit rows; a chunk of one that is pooled has one of those at most. */
function chunk(plan: PlanBuilder, sequence: Sequence, start: number, end: number): number {
  const count = Math.min(end - start, plan.rowsLeft);
  if (sequence.pooling !== null) return plan.logitRowsLeft > 0 ? count : 0;
  // While its prompt is scored, every row not scored yet needs its logits; else only the last one does.
  if (sequence.scoring) return Math.min(count, Math.max(0, sequence.scored - start) + plan.logitRowsLeft);
  return start + count === end && plan.logitRowsLeft === 0 ? count - 1 : count;
}

function requireMore(name: string, value: number, than: string, least: number): void {
  if (value < least) throw new RangeError(`${name} is ${value} and must be at least ${least}, because of ${than}`);
}

function stopsDiffer({ request, choice, tokens }: Sequence, what: string): EngineError {
  return new EngineError(
    'internal',
    `request ${request}, choice ${choice}: the GPU ${what} ${tokens.length} tokens, the host did not; their stop rules differ`,
  );
}
