import OpenAI from 'openai';
import { BROWSER, expect, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

test('three pages of one browser download the model once, and a later visit downloads nothing', async ({
  startTestHub,
  context,
}) => {
  const { hub, url, modelRequests } = await startTestHub();
  await Promise.all([openReadyNode(context, url), openReadyNode(context, url), openReadyNode(context, url)]);
  expect(hub.state().nodes.map((node) => node.stage)).toEqual(['ready', 'ready', 'ready']);
  const once = modelRequests();
  // One each of the files that an engine reads: configuration, weights, known answers.
  expect(once).toBe(3);

  for (const page of context.pages()) await page.close();
  await openReadyNode(context, url);
  expect(modelRequests()).toBe(once);
});

test('closing one of three nodes ends its stream with a clear error, and leaves the others', async ({
  startTestHub,
  context,
}) => {
  const { hub, url } = await startTestHub();
  const pages = await Promise.all([
    openReadyNode(context, url),
    openReadyNode(context, url),
    openReadyNode(context, url),
  ]);
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const started: (() => void)[] = [];
  const allStarted = Promise.all(pages.map(() => new Promise<void>((resolve) => started.push(resolve))));
  const streams = pages.map(async (_page, i) => {
    const stream = await client.chat.completions.create({
      model: 'quire-pico',
      messages: [{ role: 'user', content: `Tell me a story. ${i}` }],
      max_completion_tokens: 200,
      stream: true,
      ...{ ignore_eos: true },
    });
    let chunks = 0;
    for await (const chunk of stream) {
      chunks += chunk.choices.length;
      if (chunks === 3) started[i]?.();
    }
    return chunks;
  });
  const outcomes = Promise.allSettled(streams);
  await allStarted;
  expect(hub.state().nodes.map((node) => node.activeRequests)).toEqual([1, 1, 1]);
  await pages[0]?.close();

  const settled = await outcomes;
  const failed = settled.filter((outcome) => outcome.status === 'rejected');
  expect(failed).toHaveLength(1);
  expect(String(failed[0]?.reason)).toMatch(/node/i);
  expect(settled.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(2);
  expect(hub.state().nodes).toHaveLength(2);
});
