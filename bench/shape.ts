import type { Gpu } from '../src/engine/gpu/device.ts';
import type { WeightDtype } from '../src/engine/kernels/dtype.ts';
import { memoryBudget } from '../src/engine/model/memory.ts';
import type { ModelSpec } from '../src/engine/model/spec.ts';
import type { KernelRunner } from '../test/gpu/kernel-runner.ts';
import type { Yardsticks } from './adapter.ts';
import { kernelTimes } from './kernel-times.ts';
import { type ShapeEngine, type ShapeSizes, shapeEngine, workingBytes } from './shape-engine.ts';
import { generatedWeights, SHAPES, shapeSpec, weightBytes } from './shapes.ts';
import { median, short, table } from './table.ts';

/** What to measure: `prefill:2048` (prompt tokens) or `decode:8x128` (batch x context). */
type Point =
  | { readonly kind: 'prefill'; readonly tokens: number }
  | { readonly kind: 'decode'; readonly batch: number; readonly context: number };

export interface ShapeOptions {
  readonly shape: string;
  readonly points: string;
  readonly dtype: string;
  /** Only kernels whose sums do not depend on the batch. */
  readonly batchInvariant: boolean;
  /** Bytes that weights, K and V, and all else may take; null: as much as an engine takes at most. */
  readonly memory: number | null;
}

export const DEFAULT_POINTS = 'prefill:512,prefill:2048,decode:1x128,decode:1x2048,decode:8x128,decode:32x128';
const RUNS = 3;
/** The first run compiles; the second still waits up to 20 ms for JavaScript that is optimized meanwhile. */
const WARM_UPS = 2;
const FEW = 4;
const DTYPES: readonly WeightDtype[] = ['f32', 'bf16', 'f16', 'int8', 'int4'];

/** Prefill and decode rates of a model of generated weights, with the time of each kernel. Throws where an option names nothing that is there. */
export async function benchShape(bench: KernelRunner, adapter: Yardsticks, options: ShapeOptions): Promise<string> {
  const { gpu } = bench;
  const { software } = gpu.adapter;
  const name = SHAPES.find((shape) => shape === options.shape);
  if (name === undefined) throw new Error(`There is no shape ${options.shape}. Shapes: ${SHAPES.join(', ')}.`);
  const dtype = dtypeNamed(options.dtype);
  const spec = shapeSpec(name);
  const kvDtype = dtype === 'f32' ? 'f32' : 'f16';
  const steps = decodeTokens(gpu);
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const memory = options.memory ?? memoryBudget({ maxBufferSize, maxStorageBufferBindingSize, software }, null).most;
  const points = options.points.split(',').map((text) => {
    const point = parsePoint(text);
    const sizes = sizesOf(point, steps);
    const needed = weightBytes(spec, dtype) + workingBytes(spec, kvDtype, software, sizes);
    return { point, sizes, needed, fits: needed <= memory };
  });
  const fitting = points.filter(({ fits }) => fits).map(({ sizes }) => sizes);
  const rows: (string | number)[][] = [];
  const kernels: string[] = [];
  const weights = fitting.length > 0 ? await generatedWeights(bench, spec, dtype) : null;
  const engine =
    weights &&
    (await shapeEngine(bench, spec, weights, kvDtype, {
      batch: Math.max(...fitting.map(({ batch }) => batch)),
      context: Math.max(...fitting.map(({ context }) => context)),
      tokens: Math.max(...fitting.map(({ batch, context }) => batch * context)),
      batchInvariant: options.batchInvariant,
    }));
  for (const { point, needed, fits } of points) {
    if (!fits || engine === null) {
      rows.push([nameOf(point), `skipped: needs ${short(needed / 2 ** 30)} GiB`, '', '', '', '']);
      continue;
    }
    if (point.kind === 'prefill') rows.push(await prefill(engine, point.tokens));
    else rows.push(await decode(engine, point, steps, spec, dtype, adapter));
    const chunks = point.kind === 'prefill';
    const bucket = chunks ? Math.min(point.tokens, 2048) : point.batch;
    kernels.push(await kernelTimes(engine, { bucket, chunks, loras: 0 }, adapter));
  }
  weights?.destroy();
  const head = ['point', 'tokens/s', 'ms a step', 'host ms', 'dispatches', 'of the least time'];
  const kernelsUsed = engine?.program.matrices ? 'matrix instructions' : 'no matrix instructions';
  const title = `Shape ${name}, ${dtype} weights, ${kvDtype} KV, ${kernelsUsed}, at most ${short(memory / 2 ** 30)} GiB; medians of ${RUNS} runs`;
  return [table(title, head, rows), ...kernels].join('\n');
}

/** What an engine holds at a point. */
function sizesOf(point: Point, steps: number): ShapeSizes {
  const more = FEW + steps + 1;
  return point.kind === 'prefill'
    ? { batch: 1, context: point.tokens + more }
    : { batch: point.batch, context: point.context + more };
}

const nameOf = (point: Point): string =>
  point.kind === 'prefill' ? `prefill ${point.tokens}` : `decode ${point.batch} x ${point.context}`;

/** Throws where there is none of that name. */
export function dtypeNamed(name: string): WeightDtype {
  const dtype = DTYPES.find((each) => each === name);
  if (dtype === undefined) throw new Error(`There is no dtype ${name}. Dtypes: ${DTYPES.join(', ')}.`);
  return dtype;
}

function parsePoint(text: string): Point {
  const prefill = /^prefill:(\d{1,6})$/.exec(text);
  if (prefill) return { kind: 'prefill', tokens: Number(prefill[1]) };
  const decode = /^decode:(\d{1,4})x(\d{1,6})$/.exec(text);
  if (decode) return { kind: 'decode', batch: Number(decode[1]), context: Number(decode[2]) };
  throw new Error(`${text} is no point. Points are prefill:TOKENS and decode:BATCHxCONTEXT.`);
}

/** A software adapter takes seconds where a GPU takes milliseconds. */
function decodeTokens({ adapter }: Gpu): number {
  return adapter.software ? 16 : 128;
}

async function prefill(engine: ShapeEngine, tokens: number): Promise<(string | number)[]> {
  const seconds: number[] = [];
  for (let run = 0; run < WARM_UPS + RUNS; run++) {
    const took = await engine.run(1, tokens, 1, false);
    if (run >= WARM_UPS) seconds.push(took);
  }
  const steps = engine.loop.steps().filter((step) => step.prefillRows > 0);
  const { dispatches = 0 } = steps.at(-1) ?? {};
  const took = median(seconds);
  return [
    nameOf({ kind: 'prefill', tokens }),
    short(tokens / took),
    short(took * 1000),
    short(median(steps.map((s) => s.hostMs))),
    dispatches,
    '',
  ];
}

async function decode(
  engine: ShapeEngine,
  { batch, context }: { readonly batch: number; readonly context: number },
  tokens: number,
  spec: ModelSpec,
  dtype: WeightDtype,
  adapter: Yardsticks,
): Promise<(string | number)[]> {
  const seconds: number[] = [];
  for (let run = 0; run < WARM_UPS + RUNS; run++) {
    // What both have in common (the first step, its latency) falls out of the difference.
    const few = await engine.run(batch, context, FEW, true);
    const many = await engine.run(batch, context, FEW + tokens, true);
    if (run >= WARM_UPS) seconds.push((many - few) / tokens);
  }
  const steps = engine.loop.steps().filter((step) => step.decodeRows === batch && step.prefillRows === 0);
  const { dispatches = 0 } = steps.at(-1) ?? {};
  const took = median(seconds);
  const least = weightBytes(spec, dtype) / adapter.bytesPerSecond + dispatches * adapter.dispatchSeconds;
  return [
    nameOf({ kind: 'decode', batch, context }),
    short(batch / took),
    short(took * 1000),
    short(median(steps.map((step) => step.hostMs))),
    dispatches,
    `${short((100 * least) / took)} %`,
  ];
}
