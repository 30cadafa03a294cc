import type { Gpu } from '../src/engine/gpu/device.ts';
import type { KernelCall } from '../src/engine/gpu/kernel.ts';
import { encodeCalls } from '../src/engine/gpu/pipelines.ts';
import { Bench } from '../test/gpu/dawn.ts';
import { median, short, table } from './table.ts';

/** What an adapter gives at best: the yardsticks of everything else. */
export interface Yardsticks {
  /** Of one pass over a buffer, read by WGSL. */
  readonly bytesPerSecond: number;
  /** Of one more dispatch in a pass. */
  readonly dispatchSeconds: number;
}

const MEASURED_BYTES = 64 * 2 ** 20;
const PASSES = 8;
const DISPATCHES = 1000;
const RUNS = 7;

/** Medians of `RUNS` runs; what a submission costs by itself falls out of the difference of a long and a short one. */
export async function measureAdapter(gpu: Gpu): Promise<Yardsticks> {
  const bench = new Bench(gpu);
  const width = gpu.adapter.software ? 4 : 256;
  const groups = gpu.adapter.software ? 8 : 2048;
  const read: KernelCall = {
    label: 'stream read',
    shader: 'bench/stream_read.wgsl',
    constants: { VECTORS: MEASURED_BYTES / 16, THREADS: width * groups, WG: width },
    bindings: [
      { buffer: bench.buffer(MEASURED_BYTES), access: 'read' },
      { buffer: bench.buffer(width * groups * 4), access: 'read_write' },
    ],
    workgroups: [groups, 1, 1],
    bytes: MEASURED_BYTES,
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
  const passes = (await seconds(bench, read, 1 + PASSES)) - (await seconds(bench, read, 1));
  const dispatches = (await seconds(bench, nothing, 1 + DISPATCHES)) - (await seconds(bench, nothing, 1));
  return { bytesPerSecond: (PASSES * MEASURED_BYTES) / passes, dispatchSeconds: dispatches / DISPATCHES };
}

export function adapterTable({ adapter }: Gpu, { bytesPerSecond, dispatchSeconds }: Yardsticks): string {
  const { vendor, architecture, device, description, features } = adapter;
  const name = [vendor, architecture, device, description].filter(Boolean).join(' ');
  return table(
    `Adapter, medians of ${RUNS} runs`,
    ['adapter', 'features in use', 'GB/s read', 'µs a dispatch'],
    [[name, features.join(', '), short(bytesPerSecond / 1e9), short(dispatchSeconds * 1e6)]],
  );
}

/** Median wall time of one submission that dispatches `call` so many times. */
async function seconds(bench: Bench, call: KernelCall, times: number): Promise<number> {
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
