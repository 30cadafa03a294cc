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
