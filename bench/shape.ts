import type { Gpu } from '../src/engine/gpu/device.ts';
import type { WeightDtype } from '../src/engine/kernels/dtype.ts';
import type { ModelSpec } from '../src/engine/model/spec.ts';
import type { Yardsticks } from './adapter.ts';
import { kernelTimes } from './kernel-times.ts';
import { type ShapeEngine, shapeEngine } from './shape-engine.ts';
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
}

export const DEFAULT_POINTS = 'prefill:512,prefill:2048,decode:1x128,decode:1x2048,decode:8x128,decode:32x128';
const RUNS = 3;
const FEW = 4;
const DTYPES: readonly WeightDtype[] = ['f32', 'bf16', 'f16', 'int8', 'int4'];

/** Prefill and decode rates of a model of generated weights, with the time of each kernel. Throws where an option names nothing that is there. */
export async function benchShape(gpu: Gpu, adapter: Yardsticks, options: ShapeOptions): Promise<string> {
  const name = SHAPES.find((shape) => shape === options.shape);
  if (name === undefined) throw new Error(`There is no shape ${options.shape}. Shapes: ${SHAPES.join(', ')}.`);
  const dtype = dtypeNamed(options.dtype);
  const points = options.points.split(',').map(parsePoint);
  const spec = shapeSpec(name);
  const kvDtype = dtype === 'f32' ? 'f32' : 'f16';
  const weights = await generatedWeights(gpu, spec, dtype);
  const steps = decodeTokens(gpu);
  const most = {
    batch: Math.max(...points.map((point) => (point.kind === 'decode' ? point.batch : 1))),
    context:
      Math.max(...points.map((point) => (point.kind === 'decode' ? point.context : point.tokens))) + FEW + steps + 1,
    batchInvariant: options.batchInvariant,
  };
  const engine = await shapeEngine(gpu, spec, weights, kvDtype, most);
  const rows: (string | number)[][] = [];
  const kernels: string[] = [];
  for (const point of points) {
    if (point.kind === 'prefill') rows.push(await prefill(engine, point.tokens));
    else rows.push(await decode(engine, point, steps, spec, dtype, adapter));
    const chunks = point.kind === 'prefill';
    const bucket = chunks ? Math.min(point.tokens, 2048) : point.batch;
    kernels.push(await kernelTimes(engine, { bucket, chunks, loras: 0 }, adapter));
  }
  weights.destroy();
  const head = ['point', 'tokens/s', 'ms a step', 'host ms', 'dispatches', 'of the least time'];
  const kernelsUsed = engine.program.matrices ? 'matrix instructions' : 'no matrix instructions';
  const title = `Shape ${name}, ${dtype} weights, ${kvDtype} KV, ${kernelsUsed}; medians of ${RUNS} runs`;
  return [table(title, head, rows), ...kernels].join('\n');
}

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
  for (let run = 0; run <= RUNS; run++) {
    const took = await engine.run(1, tokens, 1, false);
    if (run > 0) seconds.push(took);
  }
  const steps = engine.loop.steps().filter((step) => step.prefillRows > 0);
  const { dispatches = 0 } = steps.at(-1) ?? {};
  const took = median(seconds);
  return [
    `prefill ${tokens}`,
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
  for (let run = 0; run <= RUNS; run++) {
    // What both have in common (the first step, its latency) falls out of the difference.
    const few = await engine.run(batch, context, FEW, true);
    const many = await engine.run(batch, context, FEW + tokens, true);
    if (run > 0) seconds.push((many - few) / tokens);
  }
  const steps = engine.loop.steps().filter((step) => step.decodeRows === batch && step.prefillRows === 0);
  const { dispatches = 0 } = steps.at(-1) ?? {};
  const took = median(seconds);
  const least = weightBytes(spec, dtype) / adapter.bytesPerSecond + dispatches * adapter.dispatchSeconds;
  return [
    `decode ${batch} x ${context}`,
    short(batch / took),
    short(took * 1000),
    short(median(steps.map((step) => step.hostMs))),
    dispatches,
    `${short((100 * least) / took)} %`,
  ];
}
