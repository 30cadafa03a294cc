/** `npm run bench`: all figures as Markdown tables. `-- --only=engine,hub` selects; `-- --adapter=default` uses the machine's own GPU; `--only=shape --shape=qwen3-0.6b --points=decode:8x128 --dtype=bf16` a model of that shape, `--only=shape-page` the same in Chromium; `--binding=128` holds the device to buffers and bindings of so many MiB, `--memory=64` points to so many GiB. */
import { Bench, openDawn } from '../test/gpu/dawn.ts';
import { adapterTable, measureAdapter, type Yardsticks } from './adapter.ts';
import { benchColdEngine, benchColdPage, benchNpmStart } from './cold-start.ts';
import { benchCompile } from './compile.ts';
import { benchEngine } from './engine.ts';
import { benchExact } from './exact.ts';
import { benchGrammar } from './grammar.ts';
import { benchHub } from './hub.ts';
import { loadLine, surroundings } from './machine.ts';
import { benchPage } from './page.ts';
import { benchQuantization } from './quantization.ts';
import { benchRouter } from './router.ts';
import { benchShape, DEFAULT_POINTS, dtypeNamed, type ShapeOptions } from './shape.ts';
import { benchShapePage } from './shape-page.ts';
import { benchSpeculation } from './speculation.ts';

const named = (name: string) => process.argv.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
const binding = named('binding');
const maxBufferBytes = binding === undefined ? null : Number(binding) * 2 ** 20;
const gpu = await openDawn(maxBufferBytes === null ? {} : { maxBufferBytes });
const bench = new Bench(gpu);
let yardsticks: Promise<Yardsticks> | undefined;
const measured = () => {
  yardsticks ??= measureAdapter(bench);
  return yardsticks;
};
const { software } = gpu.adapter;

const memory = named('memory');
const only = named('only');
const shapeOptions: ShapeOptions = {
  shape: named('shape') ?? (software ? 'pico' : 'qwen3-0.6b'),
  points: named('points') ?? DEFAULT_POINTS,
  dtype: named('dtype') ?? 'bf16',
  batchInvariant: !process.argv.includes('--no-batch-invariant'),
  memory: memory === undefined ? null : Number(memory) * 2 ** 30,
};

/** In the order in which they run: the cold start first, while this process has compiled nothing. */
const PARTS: Readonly<Record<string, () => Promise<string>>> = {
  'cold-engine': benchColdEngine,
  'cold-page': () => benchColdPage(software),
  'npm-start': benchNpmStart,
  adapter: async () => adapterTable(gpu.adapter, await measured()),
  engine: async () => benchEngine(await measured()),
  shape: async () => benchShape(bench, await measured(), shapeOptions),
  'shape-page': () => benchShapePage(software, { ...shapeOptions, maxBufferBytes }),
  page: () => benchPage(software),
  hub: benchHub,
  router: benchRouter,
  compile: benchCompile,
  exact: benchExact,
  speculation: () =>
    benchSpeculation(gpu, {
      shape: named('shape') ?? 'pico',
      dtype: dtypeNamed(named('dtype') ?? 'bf16'),
      drafts: Number(named('drafts') ?? 4),
      batches: (named('batches') ?? '1,8').split(',').map(Number),
      batchInvariant: shapeOptions.batchInvariant,
    }),
  grammar: benchGrammar,
  quantization: () => benchQuantization(named('ways')?.split(';')),
};

const wanted = only?.split(',') ?? Object.keys(PARTS);
const unknown = wanted.find((name) => PARTS[name] === undefined);
if (unknown !== undefined) {
  console.error(`There is no part ${unknown}. Parts: ${Object.keys(PARTS).join(', ')}.`);
  process.exit(2);
}
console.log(`${surroundings()}\n`);
for (const [name, part] of Object.entries(PARTS)) if (wanted.includes(name)) console.log(await part());
console.log(loadLine('at the end'));
gpu.device.destroy();
