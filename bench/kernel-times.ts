import type { KernelCall, PreparedCall } from '../src/engine/gpu/kernel.ts';
import { encodeCalls } from '../src/engine/gpu/pipelines.ts';
import { headCalls, layerCalls } from '../src/engine/model/program.ts';
import type { StepRows } from '../src/engine/model/program-inputs.ts';
import type { Yardsticks } from './adapter.ts';
import type { ShapeEngine } from './shape-engine.ts';
import { median, short, table } from './table.ts';

const RUNS = 9;

/**
 * GPU time of each kernel of a step of `bucket` rows, by timestamps: one pass per kernel, summed over the layers, beside the step as one pass.
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
  const singles: number[][] = [];
  const wholes: number[] = [];
  for (let run = 0; run <= RUNS; run++) {
    const each = await time(prepared.map((call) => [call]));
    const [whole = 0] = await time([prepared]);
    if (run === 0) continue;
    singles.push(each);
    wholes.push(whole);
  }
  queries.destroy();
  resolved.destroy();
  staging.destroy();
  const byName = new Map<string, { seconds: number; bytes: number; flops: number; count: number }>();
  for (const [i, call] of calls.entries()) {
    const name = call.label.replace(/^layer \d+ /, '');
    const sum = byName.get(name) ?? { seconds: 0, bytes: 0, flops: 0, count: 0 };
    sum.seconds += median(singles.map((run) => run[i]!));
    sum.bytes += call.bytes;
    sum.flops += call.flops;
    sum.count += 1;
    byName.set(name, sum);
  }
  const total = [...byName.values()].reduce((sum, { seconds }) => sum + seconds, 0);
  const lines = [...byName].map(([name, { seconds, bytes, flops, count }]) => [
    name,
    count,
    short(seconds * 1e6),
    short((seconds * 1e6) / count),
    short(bytes / seconds / 1e9),
    `${short((100 * bytes) / seconds / adapter.bytesPerSecond)} %`,
    short(flops / seconds / 1e12),
  ]);
  return table(
    `Kernels of a step of ${bucket} rows: ${short(total * 1e3)} ms in passes of their own, ${short(median(wholes) * 1e3)} ms as one pass, ${prepared.length} dispatches`,
    ['kernel', 'dispatches', 'µs', 'µs each', 'GB/s', 'of the read bandwidth', 'TFLOP/s'],
    lines,
  );
}
