import { expect, it } from 'vitest';
import { BlockManager } from '../../../src/engine/kv/block-manager.ts';
import { Scheduler } from '../../../src/engine/scheduler.ts';
import { Sequence } from '../../../src/engine/sequence.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';

const hasher = await createBlockHasher('xxh3');
const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

/** Blocks of 4 tokens, contexts of 100, 32 rows a step. `step` computes one, in which every sampled token is 7, and names its rows. */
function setUp(totalBlocks: number, maxNumSeqs: number) {
  const blockManager = new BlockManager(totalBlocks, 4, hasher, { prefixCaching: true });
  const limits = {
    maxNumSeqs,
    maxNumBatchedTokens: 32,
    maxModelLen: 100,
    maxLogitRows: 8,
    maxWaiting: 10,
    maxDrafts: 0,
  };
  const scheduler = new Scheduler({ ...limits, blockManager });
  const add = (request: string, priority: number, prompt: readonly number[], maxTokens: number) => {
    const sampling = { ...GREEDY, maxTokens };
    const sequence = new Sequence({ request, prompt: [...prompt], choices: [], sampling, priority }, 0, [], 100);
    scheduler.add([sequence]);
    return sequence;
  };
  const step = () => {
    const plan = scheduler.schedule()!;
    const tokens = plan.logitRows.map(() => 7);
    scheduler.consume(plan, tokens);
    return plan.rows.map((row) => `${row.sequence.request} ${row.start}`);
  };
  return { scheduler, add, step };
}

it('admits lower numbers first, and equals in the order in which they came', () => {
  const { add, step } = setUp(100, 2);
  for (const [name, priority] of Object.entries({ late: 5, a: 0, urgent: -1, b: 0 })) add(name, priority, [1, 2, 3], 1);
  expect(step()).toEqual(['urgent 0', 'a 0']);
  expect(step()).toEqual(['b 0', 'late 0']);
});

it('preempts the highest number, however long it has run, and brings it back behind lower ones', () => {
  const { scheduler, add, step } = setUp(5, 4);
  const low = add('low', 5, range(20, 7), 9);
  step();
  add('high', 0, range(0, 8), 12);
  expect(step()).toEqual(['low 7', 'high 0']);
  for (let i = 0; i < 8 && low.status === 'running'; i++) step();
  expect(low.status).toBe('waiting');
  expect(scheduler.preemptions).toBe(1);
  add('next', 0, range(40, 3), 1);
  scheduler.cancel('high');
  // The one that was preempted is the oldest of all, and waits all the same.
  expect(step().map((row) => row.split(' ')[0])).toEqual(['next', 'low']);
});
