import type OpenAI from 'openai';
import { embeddingRows, floatBytes } from '../support/embedding-rows.ts';
import { PICO } from '../support/test-hub.ts';
import { torchFile } from '../support/torch-file.ts';
import { clientOf } from './client.ts';
import { BROWSER, expect, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

const IDS = Array.from({ length: 37 }, (_, i) => 300 + 11 * i);

for (const dtype of ['f32', 'bf16'] as const) {
  test(`a page goes on from embeddings as from their tokens: ${dtype}`, async ({ startTestHub, context }) => {
    const { url } = await startTestHub({ promptEmbeds: true });
    await openReadyNode(context, url);
    const ask = (more: Pick<OpenAI.CompletionCreateParamsNonStreaming, 'prompt'> & { prompt_embeds?: string }) => {
      const body = { model: 'quire-pico', temperature: 0, max_tokens: 24, logprobs: 2, ignore_eos: true, ...more };
      return clientOf(url).completions.create(body as OpenAI.CompletionCreateParamsNonStreaming);
    };
    const { hidden, rows } = embeddingRows(PICO, IDS);
    const file = torchFile({ dtype, shape: [1, IDS.length, hidden], data: floatBytes(rows, dtype) });
    const embeds = Buffer.from(file).toString('base64');
    const told = await ask({ prompt: IDS });
    const given = await ask({ prompt: [IDS], prompt_embeds: embeds });
    expect(given.choices).toHaveLength(2);
    for (const { text, logprobs } of given.choices) {
      expect(text).toBe(told.choices[0]!.text);
      expect(logprobs).toEqual(told.choices[0]!.logprobs);
    }
    expect(given.usage).toMatchObject({ prompt_tokens: 2 * IDS.length, completion_tokens: 48 });
  });
}
