import { readFileSync } from 'node:fs';
import type OpenAI from 'openai';
import { clientOf, countersWhenIdle, crowd, growth } from './client.ts';
import { BROWSER, expect, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

interface Case {
  readonly messages: OpenAI.ChatCompletionMessageParam[];
  readonly tools?: OpenAI.ChatCompletionFunctionTool[];
  readonly enable_thinking?: boolean;
  readonly answer: string;
}
const skills = JSON.parse(
  readFileSync(new URL('../fixtures/quire-pico/skills.json', import.meta.url), 'utf8'),
) as Record<string, Case[]>;

/** So many prompts are asked at once; each that ends makes room for the next. */
const AT_ONCE = 24;
/** As many tokens as the reference implementation was given to answer. */
const MAX_TOKENS = 140;

test('every skill is answered right twenty times out of twenty, in batches', async ({ startTestHub, context }) => {
  test.setTimeout(900_000);
  const { hub, url } = await startTestHub();
  await openReadyNode(context, url);
  const client = clientOf(url);
  const before = await countersWhenIdle(hub);
  const cases = Object.entries(skills).flatMap(([kind, each]) => each.map((one) => ({ kind, ...one })));

  const outcomes = await crowd(cases, AT_ONCE, async ({ kind, messages, tools, enable_thinking, answer }) => {
    const completion = await client.chat.completions.create({
      model: 'quire-pico',
      messages,
      temperature: 0,
      max_completion_tokens: MAX_TOKENS,
      ...(tools && { tools }),
      ...(enable_thinking && { chat_template_kwargs: { enable_thinking } }),
    });
    const got = completion.choices[0]?.message.content?.split('</think>\n\n').at(-1);
    return { kind, question: messages.at(-1)?.content, got, answer, right: got === answer };
  });

  expect(outcomes.filter(({ right }) => !right)).toEqual([]);
  const right = Object.keys(skills).map((kind) => [kind, outcomes.filter((o) => o.kind === kind && o.right).length]);
  expect(Object.fromEntries(right)).toEqual({
    addition_with_thought: 20,
    recall_10: 20,
    recall_40: 20,
    recall_80: 20,
    copying: 20,
    json: 20,
    facts: 20,
    tool_calls: 20,
  });
  const counted = growth(before, await countersWhenIdle(hub));
  expect(counted.decodeRows / counted.steps).toBeGreaterThan(4);
  expect(counted.mixedSteps).toBeGreaterThan(0);
});
