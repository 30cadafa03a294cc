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

/** The call of an answer as quire-pico wrote it. */
function asWritten({ tool_calls: calls = [] }: OpenAI.ChatCompletionMessage): string {
  const [call] = calls.map((each) => (each.type === 'function' ? each.function : null));
  return `<tool_call>\n{"name": "${call?.name}", "arguments": ${call?.arguments}}\n</tool_call>`;
}

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
    const { finish_reason: reason, message } = completion.choices[0]!;
    const { reasoning_content: reasoning } = message as { reasoning_content?: string };
    const got = message.content ?? asWritten(message);
    const asked = messages.at(-1)?.content;
    return { kind, asked, got, answer, right: got === answer, reason, reasoned: reasoning !== undefined };
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
  // Calls are calls, not text, and reasoning that the prompt begins is apart from the answer.
  const called = outcomes.filter(({ reason }) => reason === 'tool_calls');
  expect(new Set(called.map(({ kind }) => kind))).toEqual(new Set(['tool_calls']));
  expect(called).toHaveLength(20);
  const reasoned = outcomes.filter(({ reasoned }) => reasoned);
  expect(new Set(reasoned.map(({ kind }) => kind))).toEqual(new Set(['addition_with_thought']));
  expect(reasoned).toHaveLength(20);
  const counted = growth(before, await countersWhenIdle(hub));
  expect(counted.decodeRows / counted.steps).toBeGreaterThan(4);
  expect(counted.mixedSteps).toBeGreaterThan(0);
});
