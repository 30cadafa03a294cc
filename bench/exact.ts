import { type Collected, type ReferenceCase, reference, TestEngine } from '../test/gpu/test-engine.ts';
import { short, table } from './table.ts';

const EOS = [2, 0];

/** How far the engine's numbers are from the reference implementation's (float32 on a CPU), for each way to hold K and V. */
export async function benchExact(): Promise<string> {
  const rows: (string | number)[][] = [];
  for (const kvCacheDtype of ['f32', 'f16', 'bf16', 'int8'] as const) {
    const test = await TestEngine.create({ kvCacheDtype });
    const answers = await Promise.all(
      reference.cases.map((c) =>
        test.one(c.input_ids, { maxTokens: c.output_ids.length, stopIds: EOS, logprobs: 5, promptLogprobs: 0 }),
      ),
    );
    await test.close();
    const equal = answers.filter(({ tokens }, i) => String(tokens) === String(reference.cases[i]!.output_ids));
    const most = (read: (c: ReferenceCase, answer: Collected) => number[]) =>
      short(Math.max(...reference.cases.flatMap((c, i) => read(c, answers[i]!))));
    rows.push([kvCacheDtype, `${equal.length} of ${reference.cases.length}`, most(topErrors), most(promptErrors)]);
  }
  return table(
    'Against the reference implementation: its eight prompts at once, greedily',
    ['KV', 'texts equal token for token', 'largest error of a top-5 logprob', 'largest error of a prompt logprob'],
    rows,
  );
}

/** Up to the first token that differs: after it the contexts differ, and nothing can be compared. */
function topErrors(c: ReferenceCase, { tokens, logprobs }: Collected): number[] {
  const other = c.steps.findIndex(({ token }, i) => tokens[i] !== token);
  return c.steps.slice(0, other < 0 ? undefined : other + 1).flatMap(({ top }, i) => {
    const mine = new Map(logprobs[i]!.top);
    return top.flatMap(([id, logprob]) => (mine.has(id) ? [Math.abs(mine.get(id)! - logprob)] : []));
  });
}

function promptErrors(c: ReferenceCase, { promptLogprobs }: Collected): number[] {
  return c.prompt_logprobs.map((logprob, i) => Math.abs(promptLogprobs![i + 1]!.logprob - logprob));
}
