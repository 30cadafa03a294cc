import type { BrowserContext, Page } from '@playwright/test';
import { BROWSER, expect, expectStage, test } from './fixture.ts';

test.use(BROWSER);

/** Opens the page with its worker's script changed on the way. */
async function openWith(context: BrowserContext, url: string, change: (script: string) => string): Promise<Page> {
  let changed = false;
  await context.route('**/assets/worker-*.js', async (route) => {
    const response = await route.fetch();
    const script = await response.text();
    const body = change(script);
    changed = body !== script;
    await route.fulfill({ response, body });
  });
  const page = await context.newPage();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'refused');
  expect(changed).toBe(true);
  return page;
}

test('a GPU that computes nothing does not get to serve', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub();
  const page = await openWith(
    context,
    url,
    (script) => `GPUComputePassEncoder.prototype.dispatchWorkgroups = () => {};\n${script}`,
  );
  await expect(page.getByTestId('problem')).toContainText(/self-test failed on ".*swiftshader/);
  expect(hub.state().nodes).toEqual([]);
});

test('one wrong constant in one shader keeps the node out', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub();
  const page = await openWith(context, url, (script) => script.replace(/inverseSqrt\(/, '1.01 * inverseSqrt('));
  await expect(page.getByTestId('problem')).toContainText('self-test failed');
  expect(hub.state().nodes).toEqual([]);
});

test('weights that were changed on the way keep the node out', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub();
  let changed = 0;
  await context.route('**/model.safetensors', async (route) => {
    const response = await route.fetch();
    const body = await response.body();
    for (let i = 2_000_000; i < 2_000_064; i++) body[i] = 0x11;
    changed++;
    await route.fulfill({ response, body });
  });
  const page = await context.newPage();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'refused');
  expect(changed).toBeGreaterThan(0);
  await expect(page.getByTestId('problem')).toContainText('model.safetensors');
  expect(hub.state().nodes).toEqual([]);
});
