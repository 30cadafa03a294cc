import { fileURLToPath } from 'node:url';
import { ThreadMatcher } from '../src/node/grammar/thread-matcher.ts';
import { readVocabulary } from '../src/node/grammar/vocabulary.ts';
import { systemClock } from '../src/protocol/clock.ts';
import { TestEngine } from '../test/gpu/test-engine.ts';
import { folderFiles } from '../test/support/folder-files.ts';
import { startGrammarThread } from '../test/support/grammar-thread.ts';
import { benchMasks } from './grammar-masks.ts';
import { Prompts, RUNS } from './rates.ts';
import { median, short, table } from './table.ts';

/** Rows without a grammar, and rows under one, that run at once. */
const CROWDS = [
  [1, 0],
  [0, 1],
  [8, 0],
  [8, 1],
  [8, 8],
  [0, 8],
] as const;
const END_IDS = [2, 0];
const TOKENS = 32;
const PROMPT = 8;
/** Goes on for as long as it is measured. */
const GRAMMAR = 'root ::= letter letter*\nletter ::= [a-z] | " "\n';

/** Tokens per second of free and of constrained rows, alone and beside each other; then what their masks take. */
export async function benchGrammar(): Promise<string> {
  const files = folderFiles(fileURLToPath(new URL('../models/quire-pico', import.meta.url)));
  const vocabulary = await readVocabulary(files, 4096, END_IDS);
  const grammars = new ThreadMatcher({
    startThread: startGrammarThread,
    vocabulary: async () => vocabulary,
    clock: systemClock,
  });
  const test = await TestEngine.create({ grammars, kvCacheDtype: 'auto' });
  const prompts = new Prompts();
  const rates = CROWDS.map((): Awaited<ReturnType<typeof crowd>>[] => []);
  // In turns: what else the machine does falls on all of them. The first round compiles.
  for (let run = 0; run <= RUNS; run++)
    for (const [i, [free, held]] of CROWDS.entries()) {
      const rate = await crowd(test, prompts, free, held, `${free}-${held}-${run}`);
      if (run > 0) rates[i]!.push(rate);
    }
  const rows = CROWDS.map(([free, held], i) => {
    const of = (key: keyof Awaited<ReturnType<typeof crowd>>) => median(rates[i]!.map((rate) => rate[key]));
    return [
      free,
      held,
      free === 0 ? '-' : short(of('free') / free),
      held === 0 ? '-' : short(of('held') / held),
      free === 0 ? '-' : short(of('freeSteps') / TOKENS),
      held === 0 ? '-' : short(of('heldSteps')),
      `${short(of('overlapped') * 100)} %`,
    ];
  });
  await test.close();
  const head = [
    'free rows',
    'constrained rows',
    'tokens/s of a free row',
    'tokens/s of a constrained row',
    'steps a token of a free row',
    'of a constrained row',
    'steps submitted while another was pending',
  ];
  const crowds = table(`Grammars: quire-pico in Node, ${TOKENS} tokens a row; medians of ${RUNS} runs`, head, rows);
  return `${crowds}\n${await benchMasks(vocabulary, END_IDS)}`;
}

/** Rates while all rows run: the time ends when the first kind is done. */
async function crowd(test: TestEngine, prompts: Prompts, free: number, held: number, name: string) {
  const started = performance.now();
  const before = test.engine.steps().at(-1)?.step ?? -1;
  const ids = Array.from({ length: held }, (_, i) => `held-${name}-${i}`);
  const sampling = {
    temperature: 1,
    stopIds: END_IDS,
    logitBias: END_IDS.map((id): [number, number] => [id, -100]),
  };
  const constrained = ids.map((id) =>
    test.generate(prompts.next(PROMPT), { ...sampling, maxTokens: free > 0 ? 400 : TOKENS }, 1, id, undefined, {
      grammar: GRAMMAR,
    }),
  );
  const others = Array.from({ length: free }, () => test.one(prompts.next(PROMPT), { maxTokens: TOKENS }));
  await Promise.all(free > 0 ? others : constrained);
  const seconds = (performance.now() - started) / 1000;
  const tokens = free > 0 ? ids.reduce((sum, id) => sum + test.tokensOf(id), 0) : held * TOKENS;
  for (const id of ids) test.engine.cancel(id);
  const steps = test.engine.steps().filter(({ step }) => step > before);
  return {
    free: (free * TOKENS) / seconds,
    held: tokens / seconds,
    freeSteps: steps.length,
    heldSteps: (steps.length * held) / tokens,
    overlapped: steps.filter(({ inFlight }) => inFlight > 0).length / steps.length,
  };
}
