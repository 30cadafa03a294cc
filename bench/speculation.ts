import { speculationOf } from '../src/config/speculative.ts';
import type { Engine } from '../src/engine/api.ts';
import type { Gpu } from '../src/engine/gpu/device.ts';
import type { WeightDtype } from '../src/engine/kernels/dtype.ts';
import { GREEDY, type SamplingParams } from '../src/protocol/sampling.ts';
import { Bench } from '../test/gpu/dawn.ts';
import { reference, TestEngine } from '../test/gpu/test-engine.ts';
import { shapeEngine } from './shape-engine.ts';
import { generatedWeights, SHAPES, type ShapeName, shapeSpec } from './shapes.ts';
import { median, short, table } from './table.ts';

const RUNS = 3;
const FEW = 2;
/** Tokens of a sequence that are timed, after the first few. */
const TOKENS = { software: 64, hardware: 256 };
const CONTEXT = 128;
/** Engines of either kind hold so many tokens of a sequence. */
const MAX_MODEL_LEN = 512;

export interface SpeculationOptions {
  /** pico: quire-pico and its own text; another: generated weights. */
  readonly shape: string;
  readonly dtype: WeightDtype;
  /** `num_speculative_tokens`. */
  readonly drafts: number;
  readonly batches: readonly number[];
  readonly batchInvariant: boolean;
}

interface Workload {
  readonly name: string;
  readonly prompt: readonly number[];
  readonly sampling: SamplingParams;
}

/** An engine with drafts or without. */
interface Side {
  readonly engine: Pick<Engine, 'load'>;
  /** Generates so many tokens of each of a batch. */
  generate(workload: Workload, batch: number, maxTokens: number): Promise<unknown>;
}

/** Decode rates with and without drafts, measured in turns: of what repeats itself, and of what does not. Throws where an option names nothing that is there. */
export async function benchSpeculation(gpu: Gpu, options: SpeculationOptions): Promise<string> {
  const shape = SHAPES.find((each) => each === options.shape);
  if (shape === undefined) throw new Error(`There is no shape ${options.shape}. Shapes: ${SHAPES.join(', ')}.`);
  const { sides, workloads, of, close } = await (shape === 'pico' ? pico(options) : generated(gpu, shape, options));
  const tokens = gpu.adapter.software ? TOKENS.software : TOKENS.hardware;
  const rows: (string | number)[][] = [];
  for (const workload of workloads) {
    for (const batch of options.batches) rows.push(await compare(sides, workload, batch, tokens));
  }
  await close();
  const head = ['workload', 'batch', 'tokens/s without', 'with', 'times', 'drafts accepted', 'tokens a row'];
  return table(`Speculative decoding: ${of}, ${options.drafts} drafts; medians of ${RUNS} runs`, head, rows);
}

async function compare(
  [without, drafting]: readonly [Side, Side],
  workload: Workload,
  batch: number,
  tokens: number,
): Promise<(string | number)[]> {
  const rate = async (side: Side): Promise<number> => {
    // What both have in common (the prompt, the first steps) falls out of the difference.
    const few = await milliseconds(() => side.generate(workload, batch, FEW));
    const many = await milliseconds(() => side.generate(workload, batch, FEW + tokens));
    return (batch * tokens * 1000) / (many - few);
  };
  const rates: [number[], number[]] = [[], []];
  let before = drafting.engine.load().counters;
  for (let run = 0; run <= RUNS; run++) {
    const pair = [await rate(without), await rate(drafting)] as const;
    if (run === 0) before = drafting.engine.load().counters;
    else for (const i of [0, 1] as const) rates[i].push(pair[i]);
  }
  const after = drafting.engine.load().counters;
  const grown = (name: keyof typeof after) => after[name] - before[name];
  const [plain, fast] = [median(rates[0]), median(rates[1])];
  return [
    workload.name,
    batch,
    short(plain),
    short(fast),
    short(fast / plain),
    `${short((100 * grown('acceptedTokens')) / grown('draftTokens'))} % of ${grown('draftTokens')}`,
    short(grown('sampledTokens') / grown('decodeRows')),
  ];
}

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

interface Sides {
  readonly sides: readonly [Side, Side];
  readonly workloads: readonly Workload[];
  /** What is measured, in words. */
  readonly of: string;
  close(): Promise<unknown>;
}

async function pico({ drafts, batchInvariant }: SpeculationOptions): Promise<Sides> {
  const limits = { maxModelLen: MAX_MODEL_LEN, numGpuBlocksOverride: 2048, enablePrefixCaching: false };
  const make = (speculation: ReturnType<typeof lookup> | null) =>
    TestEngine.create({ kvCacheDtype: 'auto', maxNumBatchedTokens: null, ...limits, batchInvariant, speculation });
  const engines = [await make(null), await make(lookup(drafts))] as const;
  const side = (test: TestEngine): Side => ({
    engine: test.engine,
    generate: ({ prompt, sampling }, batch, maxTokens) =>
      Promise.all(Array.from({ length: batch }, () => test.one(prompt, { ...sampling, maxTokens }))),
  });
  const text = (name: string, at: number) => ({ name, prompt: reference.cases[at]!.input_ids, sampling: GREEDY });
  return {
    sides: [side(engines[0]), side(engines[1])],
    // Nothing stops it: after its answer quire-pico writes the like of it again.
    workloads: [text('text that repeats itself', 4), text('a story', 6)],
    of: 'quire-pico',
    close: () => Promise.all(engines.map((engine) => engine.close())),
  };
}

/** Generated weights say nothing: one id is forced, so that every draft is right, or ids are drawn at random, so that none is. */
async function generated(gpu: Gpu, shape: ShapeName, options: SpeculationOptions): Promise<Sides> {
  const { dtype, drafts, batches, batchInvariant } = options;
  const spec = shapeSpec(shape);
  const bench = new Bench(gpu);
  const weights = await generatedWeights(bench, spec, dtype);
  const most = { batch: Math.max(...batches), context: MAX_MODEL_LEN };
  const kvDtype = dtype === 'f32' ? 'f32' : 'f16';
  const make = async (speculation: ReturnType<typeof lookup> | null): Promise<Side> => {
    const engine = await shapeEngine(bench, spec, weights, kvDtype, { ...most, batchInvariant, speculation });
    return {
      engine: engine.loop,
      generate: ({ sampling }, batch, maxTokens) => engine.run(batch, CONTEXT, maxTokens, true, sampling),
    };
  };
  const sampled = (name: string, sampling: Partial<SamplingParams>) => ({
    ...{ name, prompt: [] },
    sampling: { ...GREEDY, ...sampling },
  });
  return {
    sides: [await make(null), await make(lookup(drafts))],
    workloads: [
      sampled('one id over and over', { logitBias: [[7, 100]], topK: 1 }),
      sampled('ids at random', { temperature: 100, seed: [1, 2] }),
    ],
    of: `shape ${shape}, ${dtype} weights, ${kvDtype} KV, context ${CONTEXT}`,
    close: async () => weights.destroy(),
  };
}

function lookup(drafts: number) {
  return speculationOf({
    method: 'ngram',
    num_speculative_tokens: drafts,
    prompt_lookup_min: 2,
    prompt_lookup_max: 4,
  });
}
