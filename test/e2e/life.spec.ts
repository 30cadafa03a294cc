import { clientOf } from './client.ts';
import { BROWSER, expect, expectStage, openReadyNode, READY_MS, test } from './fixture.ts';
import { losablePage, loseDevice } from './lost-device.ts';

test.use(BROWSER);

const ask = (url: string, tokens: number) =>
  clientOf(url).completions.create({
    model: 'quire-pico',
    prompt: 'Once upon a time',
    temperature: 0,
    max_tokens: tokens,
    ...{ ignore_eos: true },
  });

test('a lost device is rebuilt from the cached weights, and serves again; a second loss in a short time ends the node, which says so to page and hub', async ({
  startTestHub,
  page,
}, testInfo) => {
  const staticDir = await losablePage(testInfo.outputPath());
  const { hub, url, modelRequests } = await startTestHub({ staticDir });
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'ready');
  const [before] = hub.state().nodes;
  const { choices } = await ask(url, 20);
  const downloads = modelRequests();
  const stage = page.getByTestId('stage');

  await loseDevice(page);
  await expect.poll(() => hub.state().models[0]?.readyNodes).toBe(0);
  expect(hub.state().nodes).toMatchObject([{ id: before?.id, stage: 'warming' }]);
  await expect(stage).toHaveAttribute('data-state', 'ready', { timeout: READY_MS });
  await expect.poll(() => hub.state().models[0]?.readyNodes).toBe(1);
  expect(hub.state().nodes[0]?.id).toBe(before?.id);
  expect(modelRequests()).toBe(downloads);
  expect((await ask(url, 20)).choices[0]?.text).toBe(choices[0]?.text);

  await loseDevice(page);
  await expect(stage).toHaveAttribute('data-state', 'gone');
  await expect(page.getByTestId('problem')).toContainText('The GPU device was lost (destroyed)');
  await expect(page.getByTestId('problem')).toContainText('second loss within 2 minutes');
  await expect.poll(() => hub.state().nodes.length).toBe(0);
});

test('a node that leaves ends the stream that runs on it, takes no other, and frees its GPU', async ({
  startTestHub,
  context,
}) => {
  const { hub, url } = await startTestHub();
  const page = await openReadyNode(context, url);
  const running = ask(url, 200);
  await expect.poll(() => hub.state().nodes[0]?.activeRequests).toBe(1);
  await page.getByTestId('leave').click();
  await expect.poll(() => hub.state().models[0]?.readyNodes).toBe(0);
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'draining');
  await expect(ask(url, 5)).rejects.toMatchObject({ status: 503, code: 'no_node_ready' });
  expect((await running).usage?.completion_tokens).toBe(200);
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
  expect(hub.state()).toMatchObject({ nodes: [], migrations: 0 });
});
