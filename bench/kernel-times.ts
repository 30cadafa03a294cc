import type { KernelCall, PreparedCall } from '../src/engine/gpu/kernel.ts';
import { encodeCalls } from '../src/engine/gpu/pipelines.ts';
import { headCalls, layerCalls } from '../src/engine/model/program.ts';
import type { StepRows } from '../src/engine/model/program-inputs.ts';
import type { Yardsticks } from './adapter.ts';
import type { ShapeEngine } from './shape-engine.ts';
import { median, short, table } from './table.ts';

const RUNS = 9;
/** A pass of one kernel has at least so many dispatches of it, so that its beginning and end weigh little. */
const LEAST_REPEATS = 32;

/**
 * GPU time of each kernel of a step of `bucket` rows, by timestamps: many repeats in a pass of its own, through all layers in turn, so that no cache
 * holds its weights; beside it the sums of one pass for each dispatch, and of the step as one pass.
 * What the buffers hold is what the step before left there.
 */
export async function kernelTimes(engine: ShapeEngine, rows: StepRows, adapter: Yardsticks): Promise<string> {
  const { program, pipelines } = engine;
  const { device } = program.gpu;
  const { bucket } = rows;
  const calls: KernelCall[] = [
    ...layerCalls(program, rows).flat(),
    ...headCalls(program, Math.min(bucket, 64), { logprobs: false, masks: false, drafts: false }),
  ];
  const prepared = await pipelines.prepare(calls);
  const queries = device.createQuerySet({ type: 'timestamp', count: prepared.length * 2 });
  const resolved = device.createBuffer({ size: prepared.length * 16, usage: 0x200 | 0x04 });
  const staging = device.createBuffer({ size: prepared.length * 16, usage: 0x01 | 0x08 });
  const time = async (passes: readonly (readonly PreparedCall[])[]): Promise<number[]> => {
    const encoder = device.createCommandEncoder();
    for (const [i, pass] of passes.entries()) {
      const timestampWrites = { querySet: queries, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
      const open = encoder.beginComputePass({ timestampWrites });
      encodeCalls(open, pass);
      open.end();
    }
    encoder.resolveQuerySet(queries, 0, passes.length * 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, passes.length * 16);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1, 0, passes.length * 16);
    const ticks = new BigUint64Array(staging.getMappedRange(0, passes.length * 16).slice(0));
    staging.unmap();
    return passes.map((_, i) => Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e9);
  };
  const byName = new Map<string, number[]>();
  for (const [i, { label }] of calls.entries()) {
    const name = label.replace(/^layer \d+ /, '');
    byName.set(name, [...(byName.get(name) ?? []), i]);
  }
  const kinds = [...byName].map(([name, own]) => ({ name, own, rounds: Math.ceil(LEAST_REPEATS / own.length) }));
  const repeated = kinds.map(({ own, rounds }) =>
    Array.from({ length: rounds }, () => own.map((i) => prepared[i]!)).flat(),
  );
  const alone: number[][] = [];
  const repeats: number[][] = [];
  const wholes: number[] = [];
  for (let run = 0; run <= RUNS; run++) {
    const singles = await time(prepared.map((call) => [call]));
    const many = await time(repeated);
    const [whole = 0] = await time([prepared]);
    if (run === 0) continue;
    alone.push(singles);
    repeats.push(many);
    wholes.push(whole);
  }
  queries.destroy();
  resolved.destroy();
  staging.destroy();
  const rowsOf = kinds.map(({ name, own, rounds }, kind) => {
    const seconds = median(repeats.map((run) => run[kind]!)) / rounds;
    const bytes = own.reduce((sum, i) => sum + calls[i]!.bytes, 0);
    const flops = own.reduce((sum, i) => sum + calls[i]!.flops, 0);
    return { name, count: own.length, seconds, bytes, flops };
  });
  const sum = short(rowsOf.reduce((all, { seconds }) => all + seconds, 0) * 1e3);
  const singly = short(prepared.reduce((all, _, i) => all + median(alone.map((run) => run[i]!)), 0) * 1e3);
  const lines = rowsOf.map(({ name, count, seconds, bytes, flops }) => [
    name,
    count,
    short(seconds * 1e6),
    short((seconds * 1e6) / count),
    short(bytes / seconds / 1e9),
    `${short((100 * bytes) / seconds / adapter.bytesPerSecond)} %`,
    short(flops / seconds / 1e12),
    `${short((100 * flops) / seconds / adapter.flopsPerSecond)} %`,
  ]);
  return table(
    `Kernels of a step of ${bucket} rows, ${prepared.length} dispatches: ${sum} ms by repeats, ${singly} ms in passes of their own, ${short(median(wholes) * 1e3)} ms as one pass`,
    ['kernel', 'dispatches', 'µs', 'µs each', 'GB/s', 'of the read bandwidth', 'TFLOP/s', 'of f32'],
    lines,
  );
}
