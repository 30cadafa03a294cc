import { BlockManager } from '../../../src/engine/kv/block-manager.ts';
import { Scheduler } from '../../../src/engine/scheduler.ts';
import { Sequence } from '../../../src/engine/sequence.ts';
import type { StepPlan } from '../../../src/engine/step-plan.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import type { BlockHasher } from '../../../src/protocol/hashes.ts';
import type { KvEvent } from '../../../src/protocol/kv-events.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';
import { checkBlocks, EventReplay, PlanChecker } from './invariants.ts';
import { SimulatedGpu } from './simulated-gpu.ts';

export interface Arrival {
  readonly tick: number;
  readonly prompt: readonly number[];
  readonly sampling?: Partial<SamplingParams>;
  readonly choices?: number;
  readonly cacheSalt?: string;
  readonly priority?: number;
  /** The tick at which the client leaves, or the blocks of a held one are let go. */
  readonly cancel?: number;
  /** Computed for its prompt's KV. */
  readonly held?: boolean;
}

export interface Machine {
  /** Steps in flight. */
  readonly depth: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxModelLen: number;
  readonly maxLogitRows: number;
  readonly totalBlocks: number;
  readonly blockSize: number;
  readonly prefixCaching: boolean;
  readonly maxDrafts: number;
  readonly hasher: BlockHasher;
  readonly order?: Uint32Array;
}

export interface Stream {
  readonly tokens: number[];
  finish: string | null;
  stopId: number | null;
}

export interface Outcome {
  /** By `request/choice`, e.g. `r0/0`. */
  readonly streams: Map<string, Stream>;
  readonly sequences: Map<string, Sequence>;
  readonly events: KvEvent[];
  readonly plans: StepPlan[];
  /** All decisions as text, to compare runs. */
  readonly log: string;
  readonly preemptions: number;
  /** Drafts that were right. */
  readonly accepted: number;
}

export function requestOf(
  id: string,
  { prompt, sampling, choices = 1, cacheSalt, priority }: Arrival,
): GenerateRequest {
  return {
    request: id,
    prompt: [...prompt],
    choices: Array.from({ length: choices }, (_, choice) => ({ choice, generated: [] })),
    sampling: { ...GREEDY, ...sampling },
    ...(cacheSalt === undefined ? {} : { cacheSalt }),
    ...(priority === undefined ? {} : { priority }),
  };
}

export function sequencesOf(request: GenerateRequest, maxModelLen: number, held = false): Sequence[] {
  return request.choices.map((c) => new Sequence(request, c.choice, c.generated, maxModelLen, held));
}

/** Runs the engine's loop over a simulated GPU until all requests have ended, and checks every state on the way. */
export function simulate(arrivals: readonly Arrival[], machine: Machine): Outcome {
  const { totalBlocks, blockSize, hasher, prefixCaching, order, depth, maxModelLen } = machine;
  const blocks = new BlockManager(totalBlocks, blockSize, hasher, { prefixCaching, ...(order && { order }) });
  const scheduler = new Scheduler({ ...machine, blockManager: blocks, maxWaiting: 1000 });
  const gpu = new SimulatedGpu(totalBlocks, blockSize);
  const checker = new PlanChecker(machine);
  const replay = new EventReplay(hasher);
  const streams = new Map<string, Stream>();
  const sequences = new Map<string, Sequence>();
  const plans: StepPlan[] = [];
  const lines: string[] = [];
  let accepted = 0;
  const flight: ({ plan: StepPlan; samples: number[] } | null)[] = [];
  const lastTick = Math.max(...arrivals.map((a) => Math.max(a.tick, a.cancel ?? 0)));

  for (let tick = 0; ; tick++) {
    if (tick > 100_000) throw new Error('the schedule does not come to an end');
    for (const [i, arrival] of arrivals.entries()) {
      if (arrival.cancel === tick) for (const sequence of scheduler.cancel(`r${i}`)) checker.cancelled(sequence);
      if (arrival.tick !== tick || (arrival.cancel ?? Number.POSITIVE_INFINITY) <= tick) continue;
      const added = sequencesOf(requestOf(`r${i}`, arrival), maxModelLen, arrival.held);
      scheduler.add(added);
      for (const sequence of added) {
        const name = `${sequence.request}/${sequence.choice}`;
        sequences.set(name, sequence);
        streams.set(name, { tokens: [], finish: null, stopId: null });
      }
    }
    if (depth > 0 && flight.length === depth) take(flight.shift()!);
    const plan = scheduler.schedule();
    if (plan) {
      checker.check(plan);
      plans.push(plan);
      lines.push(describePlan(plan));
      const entry = { plan, samples: gpu.run(plan) };
      if (depth === 0) take(entry);
      else flight.push(entry);
    } else if (flight.some((entry) => entry !== null)) flight.push(null);
    else flight.length = 0;
    replay.apply(blocks.takeEvents());
    checkBlocks(blocks, [...sequences.values()]);
    const idle = flight.length === 0 && scheduler.numRunning + scheduler.numWaiting === 0;
    if (idle && tick >= lastTick) break;
  }
  replay.expectEqual(blocks.snapshot());
  if (blocks.usedBlocks !== 0) throw new Error(`${blocks.usedBlocks} blocks were never given back`);
  const log = [
    ...lines,
    ...replay.events.map((e) => JSON.stringify(e, (_k, v) => (typeof v === 'bigint' ? `${v}` : v))),
  ];
  return {
    streams,
    sequences,
    events: replay.events,
    plans,
    log: log.join('\n'),
    preemptions: scheduler.preemptions,
    accepted,
  };

  function take(entry: { plan: StepPlan; samples: number[] } | null): void {
    if (!entry) return;
    for (const { sequence, tokens, finish, stopId } of scheduler.consume(entry.plan, entry.samples)) {
      const stream = streams.get(`${sequence.request}/${sequence.choice}`)!;
      if (stream.finish !== null) throw new Error('a finished sequence got tokens');
      stream.tokens.push(...tokens);
      accepted += tokens.length - 1;
      stream.finish = finish ?? null;
      stream.stopId = stopId ?? null;
    }
  }
}

function describePlan(plan: StepPlan): string {
  return JSON.stringify({
    ...plan,
    admitted: plan.admitted.map(({ sequence, slot }) => [sequence.request, sequence.choice, slot]),
    rows: plan.rows.map(({ sequence, ...rest }) => ({ ...rest, request: sequence.request, choice: sequence.choice })),
    logitRows: plan.logitRows.map(({ row, position, kind }) => [row, position, kind]),
  });
}
