import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KvReservation } from '../../../src/engine/api.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { type BlockHasher, createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import type { KvSection } from '../../../src/protocol/transfer.ts';
import { colliding, prompt } from './prompts.ts';
import { SimulatedEngine } from './simulated-engine.ts';
import { reference } from './simulated-gpu.ts';

const xxh3 = await createBlockHasher('xxh3');
const MAX_MODEL_LEN = 40;

const job = fc.record({
  prompt,
  maxTokens: fc.integer({ min: 1, max: 16 }),
  cacheSalt: fc.option(fc.constantFrom('a', 'b'), { nil: undefined, freq: 3 }),
  /** Where it is computed, and what becomes of it. */
  kind: fc.constantFrom('remote', 'remote', 'remote', 'there', 'here'),
  fault: fc.constantFrom(null, null, null, 'abort', 'lease', 'silent', 'cancel'),
  /** Sections moved before the fault. */
  after: fc.integer({ min: 0, max: 3 }),
  byLayers: fc.boolean(),
  /** Turns before it starts. */
  wait: fc.integer({ min: 0, max: 60 }),
});
const machine = fc.record({
  blockSize: fc.constantFrom(1, 2, 4, 5),
  pool: fc.double({ min: 1, max: 3, noNaN: true }),
  maxNumSeqs: fc.integer({ min: 1, max: 5 }),
  stepsInFlight: fc.integer({ min: 1, max: 3 }),
  pauses: fc.infiniteStream(fc.integer({ min: 0, max: 6 })),
});

type Values<T> = T extends fc.Arbitrary<infer U> ? U : never;
type Job = Values<typeof job>;
type TwoMachines = Values<typeof machine>;

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await null;
}

interface Seen {
  moved: number;
  spared: number;
  noRoom: number;
  aborted: number;
  preemptions: number;
  removed: number;
}

/** The decode side of one request, with the prefill side in the same hand. */
async function serve(
  here: SimulatedEngine,
  there: SimulatedEngine,
  id: string,
  { prompt: tokens, maxTokens, cacheSalt, kind, fault, after, byLayers, wait }: Job,
  seen: Seen,
): Promise<void> {
  await turns(wait);
  const request: GenerateRequest = {
    request: id,
    prompt: tokens,
    choices: [{ choice: 0, generated: [] }],
    sampling: { ...GREEDY, maxTokens },
    ...(cacheSalt !== undefined && { cacheSalt }),
  };
  const [near, far] = kind === 'there' ? [there, here] : [here, there];
  if (kind === 'remote') {
    const taken = near.loop.reserve(request);
    if (taken === 'no_room') seen.noRoom++;
    if (typeof taken !== 'string') {
      if (taken.firstBlock > 0) seen.spared++;
      await move(far, `t-${id}`, request, taken, fault, after, byLayers, seen);
    }
  }
  near.loop.add(request);
  if (fault !== 'cancel') return;
  await turns(after * 7);
  near.loop.cancel(id);
}

async function move(
  far: SimulatedEngine,
  transfer: string,
  request: GenerateRequest,
  reservation: KvReservation,
  fault: string | null,
  after: number,
  byLayers: boolean,
  seen: Seen,
): Promise<void> {
  const end = reservation.firstBlock + reservation.hashes.length;
  let known = 0;
  let next = reservation.firstBlock;
  let told = () => {};
  const heard = far.prefilled;
  far.prefilled = (name, progress) => {
    heard(name, progress);
    if (name !== transfer) return;
    expect(progress.blocks).toBeGreaterThanOrEqual(known);
    known = progress.blocks;
    told();
  };
  far.loop.prefill({ ...request, request: transfer });
  let sections = 0;
  try {
    // As long as nothing comes forward, somebody's patience ends.
    for (let idle = 0; next < end; idle++) {
      if (fault !== null && fault !== 'cancel' && sections >= after) throw new Error(fault);
      if (idle > 3000) throw new Error('stalled');
      if (known <= next) {
        await Promise.race([new Promise<void>((resolve) => (told = resolve)), turns(20)]);
        continue;
      }
      const blocks = Math.min(known, end) - next;
      const cuts: KvSection[] = byLayers
        ? [1, 0].map((firstLayer) => ({ firstBlock: next, blocks, firstLayer, layers: 1 }))
        : [{ firstBlock: next, blocks, firstLayer: 0, layers: 2 }];
      for (const section of cuts) reservation.write(section, new Uint8Array(await far.loop.export(transfer, section)));
      next += blocks;
      sections++;
      idle = 0;
    }
    reservation.commit();
    seen.moved++;
  } catch (error) {
    if (!(error instanceof Error) || !['abort', 'lease', 'silent', 'stalled'].includes(error.message)) throw error;
    seen.aborted++;
    reservation.abort();
    const section = { firstBlock: next, blocks: 1, firstLayer: 0, layers: 2 };
    expect(() => reservation.write(section, new Uint8Array(16))).toThrow('it has ended');
    // The prefill side may learn of it later.
    if (error.message === 'silent') await turns(40);
  } finally {
    far.loop.cancel(transfer);
    await expect(far.loop.export(transfer, { firstBlock: 0, blocks: 1, firstLayer: 0, layers: 1 })).rejects.toThrow(
      'no prompt of this id is held',
    );
  }
}

async function play(jobs: readonly Job[], m: TwoMachines, hasher: BlockHasher, seen: Seen) {
  const pause = () => turns(m.pauses.next().value as number);
  const totalBlocks = Math.floor(Math.ceil(MAX_MODEL_LEN / m.blockSize) * m.pool);
  const { blockSize, maxNumSeqs, stepsInFlight } = m;
  const engines = [0, 1].map(
    () =>
      new SimulatedEngine({
        ...{ hasher, totalBlocks, blockSize, maxNumSeqs, stepsInFlight },
        maxModelLen: MAX_MODEL_LEN,
        pause,
      }),
  );
  const [here, there] = engines as [SimulatedEngine, SimulatedEngine];
  await Promise.all(jobs.map((each, i) => serve(here, there, `r${i}`, each, seen)));
  const open = () => jobs.some((each, i) => each.fault !== 'cancel' && !engines.some((e) => e.finished.has(`r${i}`)));
  for (let i = 0; open(); i++) {
    if (i > 20_000) throw new Error('the engines do not come to an end');
    await turns(5);
  }
  await turns(200);
  for (const engine of engines) {
    expect(engine.lost).toEqual([]);
    expect(engine.blocks.usedBlocks).toBe(0);
    expect(engine.scheduler.numRunning + engine.scheduler.numWaiting).toBe(0);
    engine.replay.expectEqual(engine.blocks.snapshot());
    seen.preemptions += engine.preemptions;
    seen.removed += engine.replay.events.filter((e) => e.type === 'removed').length;
  }
  for (const [i, each] of jobs.entries()) {
    const id = `r${i}`;
    const got = here.tokens.get(id) ?? there.tokens.get(id) ?? [];
    const expected = reference(each.prompt, { ...GREEDY, maxTokens: each.maxTokens }, MAX_MODEL_LEN).tokens;
    expect({ id, got }).toEqual({ id, got: each.fault === 'cancel' ? expected.slice(0, got.length) : expected });
    expect(here.tokens.has(`t-${id}`) || there.tokens.has(`t-${id}`)).toBe(false);
  }
}

describe('two engines that hand over KV, in any mix of transfers, faults, cancellations and other requests', () => {
  it('give every request the tokens that it would get alone, and leave no block', async () => {
    const seen: Seen = { moved: 0, spared: 0, noRoom: 0, aborted: 0, preemptions: 0, removed: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(job, { minLength: 1, maxLength: 10 }), machine, (jobs, m) => play(jobs, m, xxh3, seen)),
      { numRuns: 250 },
    );
    for (const [what, count] of Object.entries(seen))
      expect({ what, enough: count > 20 }).toEqual({ what, enough: true });
  });

  it('never take the KV of another prompt when all hashes collide', async () => {
    const seen: Seen = { moved: 0, spared: 0, noRoom: 0, aborted: 0, preemptions: 0, removed: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(job, { minLength: 1, maxLength: 10 }), machine, (jobs, m) =>
        play(jobs, m, colliding, seen),
      ),
      { numRuns: 200 },
    );
    expect(seen.moved).toBeGreaterThan(20);
  });
});
