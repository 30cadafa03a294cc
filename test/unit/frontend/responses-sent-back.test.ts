import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { expect, test } from 'vitest';
import * as z from 'zod';
import { EOS, pico, ScriptedBackend, servedModel, testApi } from './support.ts';

const base = { model: 'quire-pico', input: 'Weather in Łódź?' };

test("output goes back as input, as the official client's helpers leave it", async () => {
  const said = ['{"city": "Łódź"}', '{"city": "Łódź"}', 'x'];
  const backend = new ScriptedBackend({ tokens: () => [...pico.encode(said.shift() ?? '', false), EOS] });
  const { client } = testApi([servedModel(backend)]);
  const city = z.object({ city: z.string() });
  const tool = zodResponsesFunction({ name: 'get_weather', parameters: city });
  const choice = { type: 'function' as const, name: 'get_weather' };
  const called = await client.responses.parse({ ...base, tools: [tool], tool_choice: choice });
  expect(called.output).toMatchObject([{ type: 'function_call', parsed_arguments: { city: 'Łódź' } }]);
  const text = { format: zodTextFormat(city, 'city') };
  const parsed = await client.responses.stream({ ...base, text }).finalResponse();
  expect(parsed.output).toMatchObject([{ type: 'message', content: [{ parsed: { city: 'Łódź' } }] }]);
  const input = [...called.output, ...parsed.output] as never;
  expect(await client.responses.create({ ...base, input })).toMatchObject({ status: 'completed' });
});
