import { type Collected, type ReferenceCase, reference, TestEngine } from '../test/gpu/test-engine.ts';
import { short, table } from './table.ts';

const EOS = [2, 0];
/** A difference of logprobs that is counted as small. */
const NEAR = 0.1;

/**
 * How far the engine's numbers are from the reference implementation's (float32 on a CPU), for each way to hold K and V, and from its own with
 * K and V as f16.
 */
export async function benchExact(): Promise<string> {
  const rows: (string | number)[][] = [];
  let f16: Collected[] = [];
  for (const kvCacheDtype of ['f16', 'f32', 'bf16', 'int8'] as const) {
    const test = await TestEngine.create({ kvCacheDtype });
    const answers = await Promise.all(
      reference.cases.map((c) =>
        test.one(c.input_ids, { maxTokens: c.output_ids.length, stopIds: EOS, logprobs: 5, promptLogprobs: 0 }),
      ),
    );
    await test.close();
    if (kvCacheDtype === 'f16') f16 = answers;
    const equal = answers.filter(({ tokens }, i) => String(tokens) === String(reference.cases[i]!.output_ids));
    const most = (read: (c: ReferenceCase, answer: Collected) => number[], than: readonly ReferenceCase[]) =>
      short(Math.max(...than.flatMap((c, i) => read(c, answers[i]!))));
    const own = f16.map(asReference);
    const differences = own.flatMap((c, i) => [...topErrors(c, answers[i]!), ...promptErrors(c, answers[i]!)]);
    rows.push([
      kvCacheDtype,
      `${equal.length} of ${reference.cases.length}`,
      most(topErrors, reference.cases),
      most(promptErrors, reference.cases),
      most(chosenErrors, own),
      short(Math.max(...differences)),
      `${short((100 * differences.filter((x) => x <= NEAR).length) / differences.length)} %`,
    ]);
  }
  return table(
    'Against the reference implementation: its eight prompts at once, greedily',
    [
      'KV',
      'texts equal token for token',
      'largest error of a top-5 logprob',
      'largest error of a prompt logprob',
      'largest difference from f16: of generated tokens',
      'of any token',
      `tokens within ${NEAR} of f16`,
    ],
    rows,
  );
}

/** What an engine gave, in the place of what the reference implementation gives. */
function asReference({ tokens, logprobs, promptLogprobs }: Collected, i: number): ReferenceCase {
  return {
    ...reference.cases[i]!,
    output_ids: tokens,
    steps: logprobs.map(({ token, logprob, top }) => ({ token, logprob, top })),
    prompt_logprobs: promptLogprobs!.slice(1).map((each) => each!.logprob),
  };
}

/** Up to the first token that differs: after it the contexts differ, and nothing can be compared. */
function topErrors(c: ReferenceCase, { tokens, logprobs }: Collected): number[] {
  const other = c.steps.findIndex(({ token }, i) => tokens[i] !== token);
  return c.steps.slice(0, other < 0 ? undefined : other + 1).flatMap(({ top }, i) => {
    const mine = new Map(logprobs[i]!.top);
    return top.flatMap(([id, logprob]) => (mine.has(id) ? [Math.abs(mine.get(id)! - logprob)] : []));
  });
}

function chosenErrors(c: ReferenceCase, { tokens, logprobs }: Collected): number[] {
  const other = c.steps.findIndex(({ token }, i) => tokens[i] !== token);
  return c.steps
    .slice(0, other < 0 ? undefined : other)
    .map(({ logprob }, i) => Math.abs(logprobs[i]!.logprob - logprob));
}

function promptErrors(c: ReferenceCase, { promptLogprobs }: Collected): number[] {
  return c.prompt_logprobs.map((logprob, i) => Math.abs(promptLogprobs![i + 1]!.logprob - logprob));
}
