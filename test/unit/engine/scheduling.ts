import { BlockManager } from '../../../src/engine/kv/block-manager.ts';
import { Scheduler, type SchedulerOptions } from '../../../src/engine/scheduler.ts';
import { Sequence } from '../../../src/engine/sequence.ts';
import type { StepPlan } from '../../../src/engine/step-plan.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';

const hasher = await createBlockHasher('xxh3');

export interface Setup extends Partial<Omit<SchedulerOptions, 'blockManager'>> {
  readonly totalBlocks?: number;
  readonly prefixCaching?: boolean;
}

/** Blocks of 4 tokens, contexts of 100, 4 slots, 32 rows a step. */
export function setUp({ totalBlocks = 100, prefixCaching = true, ...options }: Setup = {}) {
  const blocks = new BlockManager(totalBlocks, 4, hasher, { prefixCaching });
  const scheduler = new Scheduler({
    maxNumSeqs: 4,
    maxNumBatchedTokens: 32,
    maxModelLen: 100,
    maxLogitRows: 8,
    maxWaiting: 10,
    maxDrafts: 0,
    ...options,
    blockManager: blocks,
  });
  const add = (
    request: string,
    prompt: readonly number[],
    sampling: Partial<SamplingParams> = {},
    choices: readonly (readonly number[])[] = [[]],
  ) => {
    const filled = { request, prompt: [...prompt], choices: [], sampling: { ...GREEDY, ...sampling } };
    const sequences = choices.map((generated, choice) => new Sequence(filled, choice, generated, 100));
    scheduler.add(sequences);
    return sequences;
  };
  return { blocks, scheduler, add };
}

export const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
/** What a step computes: `a 0+8` = eight rows of request a from position 0, `a 8d` = its decode at position 8. */
export function shape(plan: StepPlan | null): string[] | null {
  if (plan === null) return null;
  const name = (s: Sequence) => (s.choice === 0 ? s.request : `${s.request}/${s.choice}`);
  return plan.rows.map((r) => `${name(r.sequence)} ${r.start}${r.decode ? 'd' : `+${r.count}`}`);
}
/** Reads a step back; every sampled token is `token`. */
export const answer = (scheduler: Scheduler, plan: StepPlan | null, token = 7) =>
  scheduler.consume(
    plan!,
    plan!.logitRows.map(() => token),
  );

/** What an update says of a decode without drafts. */
export const PLAIN = { sample: 0, drafted: 0 };
