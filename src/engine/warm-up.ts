import { GREEDY } from '../protocol/sampling.ts';
import type { Runner } from './runner.ts';
import type { Scheduler } from './scheduler.ts';
import { Sequence } from './sequence.ts';

/** No submission should hold the GPU longer: watchdogs kill tabs, and pages must stay smooth. Milliseconds. */
const LONGEST_SUBMISSION_MS = 100;
const PROBE_ROWS = 64;
const SMALLEST_BUDGET = 64;

/**
 * Rows that one submission computes in about 100 ms, a power of two from 64 to `largest`: the step budget.
 * Runs prompts of 64 tokens, then of as many as seem to fit, and prepares the programs of small decode steps on the way.
 */
export async function measureBudget(
  runner: Runner,
  newScheduler: () => Scheduler,
  largest: number,
  maxLength: number,
  now: () => number,
): Promise<number> {
  let budget = PROBE_ROWS;
  for (let round = 0; round < 3; round++) {
    const rows = Math.min(budget, largest, maxLength - 1);
    await prefill(runner, newScheduler(), rows); // compiles
    const started = now();
    await prefill(runner, newScheduler(), rows);
    const ms = Math.max(0.1, now() - started);
    const fits = 2 ** Math.floor(Math.log2((rows * LONGEST_SUBMISSION_MS) / ms));
    const next = Math.max(SMALLEST_BUDGET, Math.min(fits, largest));
    if (next <= budget) return next;
    budget = next;
  }
  return budget;
}

async function prefill(runner: Runner, scheduler: Scheduler, rows: number): Promise<void> {
  const prompt = Array.from({ length: rows }, (_, i) => i % 64);
  const { pools, hiddenSize } = runner.inputs.spec;
  const pooling = pools ? ({ type: 'MEAN', normalize: true, dimensions: hiddenSize } as const) : undefined;
  const request = { request: 'warm-up', prompt, choices: [], sampling: { ...GREEDY, maxTokens: 1 }, pooling };
  scheduler.add([new Sequence(request, 0, [], rows + 1)]);
  for (let plan = scheduler.schedule(); plan; plan = scheduler.schedule()) {
    const { result } = await runner.submit(plan);
    scheduler.consume(plan, (await result).samples);
  }
}
