import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import * as z from 'zod';
import { clientOf, keepWorkers, stepRecords } from './client.ts';
import { BROWSER, expect, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

const Visit = z.object({
  city: z.enum(['Rome', 'Oslo', 'Lima']),
  days: z.number().int().min(1).max(30),
  tags: z.array(z.string().max(8)).max(2),
  onward: z.union([z.object({ kind: z.literal('train'), hours: z.number().min(0).max(9.5) }), z.null()]),
});
const HOT = { model: 'quire-pico', temperature: 1.5, max_tokens: 300 } as const;
/** The answer begins at once: this model would reason as it likes, at this temperature for long. */
const CHAT = { ...HOT, chat_template_kwargs: { enable_thinking: false } } as const;
const messages = [{ role: 'user' as const, content: 'Plan a visit.' }];

test('answers of a page are valid at temperature 1.5: schemas, patterns, choices and forced calls, free answers beside them', async ({
  startTestHub,
  context,
}) => {
  await keepWorkers(context);
  const { url } = await startTestHub();
  const page = await openReadyNode(context, url);
  const fetched: string[] = [];
  page.on('request', (request) => fetched.push(request.url()));
  const client = clientOf(url);
  // The grammar engine comes with the first grammar, not with the page.
  await client.chat.completions.create({ ...CHAT, messages, max_tokens: 4 });
  expect(fetched.filter((address) => /assets.*\.js/.test(address))).toEqual([]);

  const response_format = zodResponseFormat(Visit, 'visit');
  const [parsed, free, picked, plate, streamed] = await Promise.all([
    client.chat.completions.parse({ ...CHAT, messages, response_format, n: 4, seed: 5 }),
    client.chat.completions.create({ ...CHAT, messages, max_tokens: 120 }),
    client.chat.completions.create({ ...CHAT, messages, n: 4, guided_choice: ['yes', 'no, thanks'] } as typeof HOT & {
      messages: typeof messages;
      n: number;
    }),
    client.completions.create({
      ...HOT,
      prompt: 'A plate:',
      structured_outputs: { regex: '[A-Z]{2}-\\d{3}é?' },
    } as typeof HOT & {
      prompt: string;
    }),
    (async () => {
      let text = '';
      const stream = await client.chat.completions.create({
        ...CHAT,
        messages,
        stream: true,
        response_format,
        seed: 6,
      });
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
      return text;
    })(),
  ]);
  const ended = parsed.choices.filter((choice) => choice.finish_reason === 'stop');
  expect(ended.length).toBeGreaterThan(1);
  for (const { message } of ended) expect(message.parsed).toEqual(Visit.parse(JSON.parse(message.content ?? '')));
  expect(free.choices[0]?.message.content).not.toBe('');
  for (const { message } of picked.choices) expect(['yes', 'no, thanks']).toContain(message.content);
  expect(plate.choices[0]?.text).toMatch(/^[A-Z]{2}-\d{3}é?$/);
  Visit.parse(JSON.parse(streamed));
  const steps = await stepRecords(page);
  expect(steps.some(({ constrainedRows, rows }) => constrainedRows > 1 && rows > constrainedRows)).toBe(true);
  expect(fetched.some((address) => /assets.*\.js/.test(address))).toBe(true);

  const tools = [
    zodFunction({
      name: 'get_weather',
      parameters: z.object({ city: z.enum(['Rome', 'Oslo']), days: z.number().int().min(1).max(7) }),
    }),
    zodFunction({ name: 'stop', parameters: z.object({}) }),
  ];
  const named = await client.chat.completions.create({
    ...{ ...CHAT, messages, tools },
    tool_choice: { type: 'function', function: { name: 'get_weather' } },
  });
  const [call] = named.choices[0]?.message.tool_calls ?? [];
  if (call?.type !== 'function') throw new Error(JSON.stringify(named));
  expect(call.function.name).toBe('get_weather');
  expect(['Rome', 'Oslo']).toContain(JSON.parse(call.function.arguments).city);
  const required = await client.chat.completions.create({
    ...{ ...CHAT, messages, tools, parallel_tool_calls: false },
    tool_choice: 'required',
  });
  expect(required.choices[0]?.message.tool_calls).toHaveLength(1);

  const refusal = async (fields: object) => {
    const error = await client.chat.completions
      .create({ ...CHAT, messages, ...fields } as never)
      .catch((e: unknown) => e);
    if (!(error instanceof OpenAI.APIError)) throw new Error('it was not refused');
    return `${error.status} ${error.param} ${error.message}`;
  };
  expect(await refusal({ guided_json: { type: 'array', uniqueItems: true } })).toMatch(
    /^400 guided_json .*'uniqueItems'/,
  );
  expect(await refusal({ guided_grammar: 'root ::= other' })).toMatch(/^400 .*Rule "other" is not defined/);
  expect(await refusal({ guided_grammar: 'root ::= other', stream: true })).toMatch(
    /^400 .*Rule "other" is not defined/,
  );
});
