import { BROWSER, expect, expectStage, test } from './fixture.ts';

test.use(BROWSER);

test('a page with two data-parallel ranks: the router chooses the rank, each has a cache of its own, and the page shows both', async ({
  startTestHub,
  context,
}) => {
  const { hub, url } = await startTestHub();
  const page = await context.newPage();
  await page.goto(`${url}/?allow-software-adapter&data-parallel-size=2&max-num-seqs=4`);
  await expectStage(page, 'ready');
  expect(hub.state().nodes).toMatchObject([{ card: { dpRank: 0, dpSize: 2, maxNumSeqs: 4 } }]);
  await expect(page.getByTestId('pool')).toHaveCount(2);
  await expect(page.getByTestId('cluster-node')).toContainText('2 ranks');

  const ask = async (prompt: readonly number[], headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'quire-pico', prompt, max_tokens: 4, temperature: 0, ignore_eos: true }),
    });
    const { choices } = (await response.json()) as { choices: { text: string }[] };
    return {
      rank: response.headers.get('x-quire-dp-rank'),
      overlap: response.headers.get('x-quire-overlap-blocks'),
      text: choices[0]!.text,
    };
  };
  const prompt = Array.from({ length: 65 }, (_, i) => 300 + i);
  const first = await ask(prompt, { 'x-data-parallel-rank': '1' });
  expect(first).toMatchObject({ rank: '1', overlap: '0' });
  await expect.poll(() => hub.state().nodes[0]?.kvEvents.count).toBeGreaterThan(0);
  // Nobody names a rank: the cache of rank 1 draws it there.
  expect(await ask(prompt)).toEqual({ rank: '1', overlap: '4', text: first.text });
  // The other rank has nothing of it, and computes the same.
  expect(await ask(prompt, { 'x-data-parallel-rank': '0' })).toEqual({ rank: '0', overlap: '0', text: first.text });
  await expect
    .poll(() => hub.state().nodes[0]?.loads.map(({ counters }) => [counters.prefillRows, counters.cachedTokens]))
    .toEqual([
      [65, 0],
      [66, 64],
    ]);
  await expect(page.locator('[data-testid=pool][data-rank="0"]')).toHaveAttribute('data-cached', '4');
  await page.getByTestId('leave').click();
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
});
