import type { BlockManager } from '../../../src/engine/kv/block-manager.ts';
import type { Sequence } from '../../../src/engine/sequence.ts';
import type { StepPlan } from '../../../src/engine/step-plan.ts';
import { LOGIT_LAST, LOGIT_LOGPROBS, LOGIT_MEAN, LOGIT_SAMPLE } from '../../../src/engine/tables.ts';
import type { BlockHasher } from '../../../src/protocol/hashes.ts';
import type { KvEvent, KvSnapshot } from '../../../src/protocol/kv-events.ts';

function ensure(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

/** Blocks are held by whom the pool says: none leaked, and shared only where the tokens up to the block's end are equal. */
export function checkBlocks(blocks: BlockManager, sequences: readonly Sequence[]): void {
  const holders = new Map<number, { sequence: Sequence; index: number }[]>();
  for (const sequence of sequences) {
    const holds = sequence.status === 'running' || (sequence.held && sequence.status === 'finished');
    ensure(holds || sequence.blocks.length === 0, 'a sequence that does not run holds blocks');
    ensure(!sequence.held || sequence.run === 0, 'a held sequence was preempted');
    ensure(new Set(sequence.blocks).size === sequence.blocks.length, 'a sequence holds a block twice');
    for (const [index, block] of sequence.blocks.entries()) {
      const list = holders.get(block) ?? [];
      list.push({ sequence, index });
      holders.set(block, list);
    }
  }
  ensure(blocks.usedBlocks === holders.size, `${blocks.usedBlocks} blocks in use, ${holders.size} held`);
  ensure(blocks.freeBlocks + blocks.usedBlocks === blocks.totalBlocks, 'blocks got lost');
  for (const [block, state] of blocks.blockMap().entries()) {
    const list = holders.get(block) ?? [];
    ensure(list.length === 0 ? state < 2 : state === Math.min(3, 1 + list.length), `block ${block} is marked ${state}`);
    const [first, ...others] = list;
    const end = ((first?.index ?? 0) + 1) * blocks.blockSize;
    for (const other of others) {
      ensure(other.index === first!.index, `block ${block} is shared at two places`);
      ensure(
        first!.sequence.cacheSalt === other.sequence.cacheSalt && other.sequence.computed >= end,
        `block ${block} is shared and should not be`,
      );
      for (let p = 0; p < end; p++)
        ensure(first!.sequence.tokens[p] === other.sequence.tokens[p], `block ${block} is shared by unequal prefixes`);
    }
  }
}

/** Plans keep their bounds, describe themselves truly, and schedule each position of a run once and in order. */
export class PlanChecker {
  readonly #limits: { maxNumSeqs: number; maxNumBatchedTokens: number; maxLogitRows: number; blockSize: number };
  readonly #next = new Map<Sequence, { run: number; least: number; most: number }>();
  readonly #scored = new Map<Sequence, Set<number>>();
  readonly #tables: number[][] = [];
  readonly #cancelled = new Set<Sequence>();
  #step = 0;

  constructor(limits: { maxNumSeqs: number; maxNumBatchedTokens: number; maxLogitRows: number; blockSize: number }) {
    this.#limits = limits;
  }

  cancelled(sequence: Sequence): void {
    this.#cancelled.add(sequence);
  }

  check(plan: StepPlan): void {
    const { maxNumSeqs, maxNumBatchedTokens, maxLogitRows } = this.#limits;
    ensure(plan.step === this.#step++, 'step numbers have holes');
    ensure(plan.numRows > 0 && plan.numRows <= maxNumBatchedTokens, `${plan.numRows} rows`);
    ensure(plan.logitRows.length <= maxLogitRows, `${plan.logitRows.length} logit rows`);
    const slots = plan.rows.map((r) => r.slot);
    ensure(new Set(slots).size === slots.length, 'two sequences in one slot');
    ensure(Math.max(...slots) < maxNumSeqs, 'a slot that does not exist');
    for (const { slot, index, block } of plan.deltas) {
      this.#tables[slot] ??= [];
      this.#tables[slot][index] = block;
    }
    let rows = 0;
    let decodeRows = 0;
    let draftRows = 0;
    for (const r of plan.rows) {
      ensure(r.firstRow === rows, 'rows do not follow each other');
      ensure(!r.decode || decodeRows === rows, 'a decode after a prefill');
      rows += r.count;
      if (r.decode) {
        decodeRows += r.count;
        draftRows += r.count - 1;
      }
      this.#checkRows(plan, r);
    }
    ensure(rows === plan.numRows && decodeRows === plan.numDecodeRows, 'rows are miscounted');
    ensure(draftRows === plan.numDraftRows, 'drafts are miscounted');
    ensure(
      plan.logitRows.every((l, i) => i === 0 || l.row > plan.logitRows[i - 1]!.row),
      'logit rows are out of order',
    );
  }

  #checkRows(
    plan: StepPlan,
    { sequence, run, slot, start, count, decode, sample, firstRow }: StepPlan['rows'][0],
  ): void {
    ensure(!this.#cancelled.has(sequence), 'a cancelled sequence is in a step');
    ensure(sequence.status === 'running' && sequence.slot === slot && sequence.run === run, 'rows of the wrong run');
    const admitted = plan.admitted.some((a) => a.sequence === sequence);
    const known = this.#next.get(sequence);
    if (admitted) {
      ensure(known?.run !== run, 'admitted twice in a run');
      ensure(start % this.#limits.blockSize === 0, 'a cached prefix of partial blocks');
    } else {
      ensure(known?.run === run && known.least <= start && start <= known.most, 'a position twice or left out');
    }
    const end = start + count;
    // While drafts are in flight, only the GPU knows how far the sequence is.
    const most = (admitted || !decode ? start : known!.most) + count;
    this.#next.set(sequence, { run, least: decode ? start + 1 : end, most });
    const reach = Math.min(sequence.scheduled + sequence.drafts, sequence.maxLength - 1);
    ensure(count > 0 && end < sequence.maxLength, 'a position that nobody needs');
    ensure(reach <= sequence.blocks.length * this.#limits.blockSize, 'positions without blocks');
    ensure(decode === start >= sequence.admittedLength, 'prefill and decode are mixed up');
    for (let i = 0; i * this.#limits.blockSize < reach; i++) {
      ensure(this.#tables[slot]?.[i] === sequence.blocks[i], `block table of slot ${slot} differs at ${i}`);
    }
    ensure((sample !== null) === (decode || end === sequence.admittedLength), 'a sample too many or too few');
    if (sample !== null) {
      const row = plan.logitRows[sample];
      const sampled = decode ? firstRow : firstRow + count - 1;
      ensure(row?.sequence === sequence && row.row === sampled, 'a sample of the wrong row');
      const wanted = sequence.pooling === null ? LOGIT_SAMPLE : LOGIT_LAST | LOGIT_MEAN;
      for (let d = 0; d < (decode ? count : 1); d++) {
        const each = plan.logitRows[sample + d];
        ensure(each?.row === sampled + d && (each.kind & wanted) !== 0, 'a sample that is none');
      }
    }
    this.#checkScores(plan, sequence, start, end, admitted);
  }

  /** When the first token of a scored prompt is sampled, all of its positions have been scored. */
  #checkScores(plan: StepPlan, sequence: Sequence, start: number, end: number, admitted: boolean): void {
    if (!sequence.scorePrompt) return;
    const scored = this.#scored.get(sequence) ?? new Set<number>();
    this.#scored.set(sequence, scored);
    ensure(!admitted || start === 0 || scored.size >= sequence.promptLength - 1, 'a scored prompt read the cache');
    for (const l of plan.logitRows) if (l.sequence === sequence && l.kind === LOGIT_LOGPROBS) scored.add(l.position);
    if (end >= sequence.promptLength) ensure(scored.size === sequence.promptLength - 1, 'a position was not scored');
  }
}

/** What a router would know from the events alone (rules K1 to K6). */
export class EventReplay {
  readonly events: KvEvent[] = [];
  readonly #hasher: BlockHasher;
  readonly #blocks = new Map<bigint, { parent: bigint | null; tokens: readonly number[] }>();

  constructor(hasher: BlockHasher) {
    this.#hasher = hasher;
  }

  apply(events: readonly KvEvent[]): void {
    for (const event of events) {
      this.events.push(event);
      ensure(event.eventId === this.events.length, 'K6: event ids have holes');
      if (event.type === 'cleared') this.#blocks.clear();
      else if (event.type === 'removed') for (const hash of event.blockHashes) this.#remove(hash);
      else this.#store(event);
    }
  }

  expectEqual(snapshot: KvSnapshot): void {
    ensure(snapshot.lastEventId === this.events.length, 'the snapshot is of another time');
    ensure(snapshot.blocks.length === this.#blocks.size, 'the snapshot has other blocks than the events');
    const seen = new Set<bigint>();
    for (const { parent, block } of snapshot.blocks) {
      ensure(parent === null || seen.has(parent), 'K8: a child before its parent');
      ensure(this.#blocks.get(block.blockHash)?.parent === parent, 'the snapshot has another parent');
      seen.add(block.blockHash);
    }
  }

  #store({ parent, cacheSalt, blocks }: Extract<KvEvent, { type: 'stored' }>): void {
    let before = parent;
    for (const { blockHash, tokensHash, tokens } of blocks) {
      ensure(before === null || this.#blocks.has(before), 'K4: stored without its parent');
      ensure(!this.#blocks.has(blockHash), 'K3: stored twice');
      ensure(this.#hasher.tokensHash(tokens, { cacheSalt }) === tokensHash, 'K2: wrong tokensHash');
      ensure(
        this.#hasher.blockHash(before, { tokensHash, tokens }, { cacheSalt }) === blockHash,
        'K2: wrong blockHash',
      );
      this.#blocks.set(blockHash, { parent: before, tokens });
      before = blockHash;
    }
  }

  #remove(hash: bigint): void {
    ensure(this.#blocks.delete(hash), 'removed and not there');
    for (const { parent } of this.#blocks.values()) ensure(parent !== hash, 'K4: a child outlives its parent');
  }
}
