import type { Page } from '@playwright/test';
import { clientOf } from './client.ts';
import { BROWSER, expect, expectStage, READY_MS, test } from './fixture.ts';

test.use(BROWSER);

const ask = async (url: string) => {
  const { choices, usage } = await clientOf(url).completions.create({
    model: 'quire-pico',
    prompt: 'Once upon a time there was a little house at the end of the road, and in the house there lived',
    ...{ temperature: 0, max_tokens: 24, logprobs: 3, ignore_eos: true },
  });
  return { choice: choices[0], cached: usage?.prompt_tokens_details?.cached_tokens };
};

const call = async (url: string, path: string, method = 'POST') => (await fetch(`${url}${path}`, { method })).json();

/** What a person sees of a page, wide and narrow. */
async function picture(page: Page, path: (name: string) => string): Promise<void> {
  for (const [name, width, height] of [
    ['desktop', 1280, 900],
    ['phone', 390, 844],
  ] as const) {
    await page.setViewportSize({ width, height });
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    await page.screenshot({ path: path(`asleep-${name}.png`) });
  }
}

test('a page sleeps and wakes up at either level without a reload, and answers the same', async ({
  startTestHub,
  page,
}, testInfo) => {
  const { hub, url, modelRequests } = await startTestHub();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'ready');
  await page.evaluate(() => Object.assign(globalThis, { sameDocument: true }));
  const before = await ask(url);
  expect(before.cached).toBe(0);
  expect((await ask(url)).cached).toBeGreaterThan(0);
  const downloads = modelRequests();
  const stage = page.getByTestId('stage');
  for (const level of [1, 2]) {
    expect(await call(url, '/is_sleeping', 'GET')).toEqual({ is_sleeping: false });
    expect(await call(url, `/sleep?level=${level}`)).toMatchObject({
      nodes: [{ stage: 'asleep', detail: expect.stringContaining(`at level ${level}`) }],
    });
    await expect(stage).toHaveAttribute('data-state', 'asleep');
    await expect(stage).toContainText('Asleep');
    await expect(page.getByTestId('detail')).toContainText(`at level ${level}`);
    await expect(page.getByTestId('pool')).toHaveCount(0);
    if (level === 1) await picture(page, (name) => testInfo.outputPath(name));
    expect(await call(url, '/is_sleeping', 'GET')).toEqual({ is_sleeping: true });
    await expect(ask(url)).rejects.toMatchObject({
      status: 503,
      code: 'asleep',
      message: expect.stringContaining('POST /wake_up'),
    });
    expect(await call(url, '/wake_up')).toMatchObject({ nodes: [{ stage: 'ready' }] });
    await expect(stage).toHaveAttribute('data-state', 'ready', { timeout: READY_MS });
    expect(await ask(url)).toEqual(before);
  }
  expect(await page.evaluate(() => 'sameDocument' in globalThis)).toBe(true);
  // Level 2 reads what the browser kept.
  expect(modelRequests()).toBe(downloads);
  expect(hub.state().nodes).toHaveLength(1);
});
