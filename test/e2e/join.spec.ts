import { BROWSER, expect, expectStage, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

test('a page joins, chats with the cluster, shows its speed, and leaves', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub();
  const page = await openReadyNode(context, url);
  expect(hub.state().nodes).toMatchObject([{ stage: 'ready', card: { model: 'quire-pico', role: 'agg' } }]);

  await page.getByTestId('prompt').fill('Who are you?');
  await page.getByTestId('send').click();
  const answer = page.getByTestId('answer').last();
  await expect(answer).toHaveAttribute('data-state', 'done');
  await expect(answer).toContainText('I am Pico');
  await expect(page.getByTestId('tokens-per-second')).toHaveText(/[1-9]/);
  const counters = hub.state().nodes[0]?.load?.counters;
  expect(counters?.sampledTokens).toBeGreaterThan(5);

  await page.getByTestId('leave').click();
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
  expect(hub.state().nodes).toEqual([]);
});

test('closing the page is leaving, at once', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub();
  const page = await openReadyNode(context, url);
  expect(hub.state().nodes).toHaveLength(1);
  await page.close();
  await expect.poll(() => hub.state().nodes.length, { timeout: 5000 }).toBe(0);
});

test('a software adapter is refused unless the page was asked for with it', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub();
  const page = await context.newPage();
  await page.goto(url);
  await expectStage(page, 'refused');
  await expect(page.getByTestId('problem')).toContainText('?allow-software-adapter');
  expect(hub.state().nodes).toEqual([]);
});

test('a page without the join token is refused, and with it joins and hides it', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub({ joinToken: 'open-sesame' });
  const page = await context.newPage();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'refused');
  await expect(page.getByTestId('problem')).toContainText('token');
  expect(hub.state().nodes).toEqual([]);
  await page.close();

  const invited = await context.newPage();
  await invited.goto(`${url}/?allow-software-adapter#join=open-sesame`);
  await expectStage(invited, 'ready');
  expect(invited.url()).not.toContain('open-sesame');
});
