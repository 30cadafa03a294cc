import type { KernelCall } from '../src/engine/gpu/kernel.ts';
import { encodeCalls } from '../src/engine/gpu/pipelines.ts';
import type { AdapterCard } from '../src/protocol/messages.ts';
import type { KernelRunner } from '../test/gpu/kernel-runner.ts';
import { median, short, table } from './table.ts';

/** What an adapter gives at best: the yardsticks of everything else. */
export interface Yardsticks {
  /** Of one pass over a buffer, read by WGSL. */
  readonly bytesPerSecond: number;
  /** Of one more dispatch in a pass. */
  readonly dispatchSeconds: number;
  /** Of multiplications and additions in f32, one of each by fma. */
  readonly flopsPerSecond: number;
}

/** A GPU reads so much that a submission's own time, some hundred microseconds in a page, weighs little. */
const READS = {
  software: { bytes: 64 * 2 ** 20, passes: 8 },
  hardware: { bytes: 128 * 2 ** 20, passes: 128 },
} as const;
const PASSES = 8;
const DISPATCHES = 1000;
/** Independent sums of a thread of fma.wgsl, in vectors of four. */
const FMA_VECTORS = 8;
const FMA_CHAINS = { software: { groups: 64, rounds: 512 }, hardware: { groups: 4096, rounds: 2048 } } as const;
const RUNS = 7;

/** Medians of `RUNS` runs; what a submission costs by itself falls out of the difference of a long and a short one. */
export async function measureAdapter(bench: KernelRunner): Promise<Yardsticks> {
  const { gpu } = bench;
  const ware = gpu.adapter.software ? 'software' : 'hardware';
  const width = gpu.adapter.software ? 4 : 256;
  const groups = gpu.adapter.software ? 8 : 2048;
  const reads = READS[ware];
  const read: KernelCall = {
    label: 'stream read',
    shader: 'bench/stream_read.wgsl',
    constants: { VECTORS: reads.bytes / 16, THREADS: width * groups, WG: width },
    bindings: [
      { buffer: bench.buffer(reads.bytes), access: 'read' },
      { buffer: bench.buffer(width * groups * 4), access: 'read_write' },
    ],
    workgroups: [groups, 1, 1],
    bytes: reads.bytes,
    flops: 0,
  };
  const nothing: KernelCall = {
    label: 'nothing',
    shader: 'bench/nothing.wgsl',
    constants: {},
    bindings: [{ buffer: bench.buffer(16), access: 'read_write' }],
    workgroups: [1, 1, 1],
    bytes: 8,
    flops: 0,
  };
  const chains = FMA_CHAINS[ware];
  const multiply: KernelCall = {
    label: 'multiply and add',
    shader: 'bench/fma.wgsl',
    constants: { WG: width, ROUNDS: chains.rounds },
    bindings: [{ buffer: bench.buffer(width * chains.groups * 4), access: 'read_write' }],
    workgroups: [chains.groups, 1, 1],
    bytes: 0,
    flops: 2 * 4 * FMA_VECTORS * chains.rounds * width * chains.groups,
  };
  const passes = (await seconds(bench, read, 1 + reads.passes)) - (await seconds(bench, read, 1));
  const dispatches = (await seconds(bench, nothing, 1 + DISPATCHES)) - (await seconds(bench, nothing, 1));
  const multiplied = (await seconds(bench, multiply, 1 + PASSES)) - (await seconds(bench, multiply, 1));
  return {
    bytesPerSecond: (reads.passes * reads.bytes) / passes,
    dispatchSeconds: dispatches / DISPATCHES,
    flopsPerSecond: (PASSES * multiply.flops) / multiplied,
  };
}

export function adapterTable(adapter: AdapterCard, measured: Yardsticks): string {
  const { bytesPerSecond, dispatchSeconds, flopsPerSecond } = measured;
  const { vendor, architecture, device, description, features } = adapter;
  const name = [vendor, architecture, device, description].filter(Boolean).join(' ');
  return table(
    `Adapter, medians of ${RUNS} runs`,
    ['adapter', 'features in use', 'GB/s read', 'TFLOP/s f32', 'µs a dispatch'],
    [
      [
        name,
        features.join(', '),
        short(bytesPerSecond / 1e9),
        short(flopsPerSecond / 1e12),
        short(dispatchSeconds * 1e6),
      ],
    ],
  );
}

/** Median wall time of one submission that dispatches `call` so many times. */
async function seconds(bench: KernelRunner, call: KernelCall, times: number): Promise<number> {
  const [prepared] = await bench.pipelines.prepare([call]);
  const calls = Array.from({ length: times }, () => prepared!);
  const { device } = bench.gpu;
  const runs: number[] = [];
  for (let run = 0; run <= RUNS; run++) {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encodeCalls(pass, calls);
    pass.end();
    const commands = encoder.finish();
    await device.queue.onSubmittedWorkDone();
    const started = performance.now();
    device.queue.submit([commands]);
    await device.queue.onSubmittedWorkDone();
    if (run > 0) runs.push((performance.now() - started) / 1000);
  }
  return median(runs);
}
