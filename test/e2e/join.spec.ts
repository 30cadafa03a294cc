import { BROWSER, expect, expectStage, openReadyNode, READY_MS, test } from './fixture.ts';

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
  const counters = hub.state().nodes[0]?.loads[0]?.counters;
  expect(counters?.sampledTokens).toBeGreaterThan(5);

  await page.getByTestId('leave').click();
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
  expect(hub.state().nodes).toEqual([]);

  // A role chosen while it lends nothing counts from the next join on; one chosen while it serves makes it join anew.
  await page.getByTestId('role').selectOption('decode');
  await page.getByTestId('join').click();
  await expectStage(page, 'ready');
  expect(hub.state().nodes).toMatchObject([{ stage: 'ready', card: { role: 'decode' } }]);
  const before = hub.state().nodes[0]?.id;
  await page.getByTestId('role').selectOption('prefill');
  await expect.poll(() => hub.state().nodes[0]?.card?.role, { timeout: READY_MS }).toBe('prefill');
  expect(hub.state().nodes).toMatchObject([{ stage: 'ready', id: expect.not.stringMatching(before ?? '') }]);
  expect(new URL(page.url()).searchParams.get('disaggregation-mode')).toBe('prefill');
});

test('stopping an answer frees the node', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub();
  const page = await openReadyNode(context, url);
  await page.getByTestId('prompt').fill('Tell me a story.');
  // Pressed by the page itself with the first words: from here it may come too late on a busy machine.
  await page.evaluate(() => {
    new MutationObserver((_, observer) => {
      const stop = document.querySelector<HTMLButtonElement>('[data-testid=stop]');
      if (!stop || !document.querySelector('[data-testid=answer][data-state=streaming]')?.textContent) return;
      observer.disconnect();
      stop.click();
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await page.getByTestId('send').click();
  const answer = page.getByTestId('answer').last();
  await expect(answer).toHaveAttribute('data-state', 'stopped');
  await expect.poll(() => hub.state().nodes[0]?.loads[0]?.running).toBe(0);
  expect(hub.state().inflightRequests).toBe(0);
});

test('a hub that goes and comes back finds its node again, which kept its engine', async ({
  startTestHub,
  context,
}) => {
  const { hub, url } = await startTestHub();
  const page = await openReadyNode(context, url);
  await hub.close({ graceSeconds: 0 });
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'reconnecting');
  const again = await startTestHub({ port: hub.port });
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'ready');
  expect(again.hub.state().nodes).toMatchObject([{ stage: 'ready' }]);
  expect(again.modelRequests()).toBe(0);
});

test('a hub with an API key asks for it, and the playground goes on with it', async ({ startTestHub, page }) => {
  const { url } = await startTestHub({ apiKeys: ['right-key'] });
  await page.goto(url);
  await expectStage(page, 'refused');
  const ask = async () => {
    await page.getByTestId('prompt').fill('Who are you?');
    await page.getByTestId('send').click();
  };
  await ask();
  await page.getByTestId('api-key').fill('right-key');
  await page.getByTestId('api-key').press('Enter');
  await ask();
  // The key is right now; what is missing is a node.
  await expect(page.getByTestId('chat-error').last()).toContainText('No node is ready');
});

test('the address of a page sets its options, over what the hub offers; closing the page is leaving, at once', async ({
  startTestHub,
  page,
}) => {
  const { hub, url } = await startTestHub({ nodeOptions: { 'max-num-seqs': '8', 'max-model-len': '512' } });
  await page.goto(`${url}/?allow-software-adapter&max-num-seqs=4&kv-cache-dtype=f32`);
  await expectStage(page, 'ready');
  expect(hub.state().nodes[0]?.card).toMatchObject({ maxNumSeqs: 4, maxModelLen: 512, kvCacheDtype: 'f32' });
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
