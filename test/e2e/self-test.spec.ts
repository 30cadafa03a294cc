import { changedPage } from './changed-page.ts';
import { BROWSER, expect, expectStage, test } from './fixture.ts';

test.use(BROWSER);

for (const [what, change] of [
  [
    'a GPU that computes nothing does',
    (script: string) => `GPUComputePassEncoder.prototype.dispatchWorkgroups = () => {};\n${script}`,
  ],
  [
    'one wrong constant in one shader does',
    (script: string) => script.replace('inverseSqrt(sum / WIDTH', '1.01 * inverseSqrt(sum / WIDTH'),
  ],
] as const) {
  test(`${what} not get to serve`, async ({ startTestHub, page }, testInfo) => {
    const { hub, url } = await startTestHub({ staticDir: await changedPage(testInfo.outputPath(), change) });
    await page.goto(`${url}/?allow-software-adapter`);
    await expectStage(page, 'refused');
    await expect(page.getByTestId('problem')).toContainText(/self-test failed on ".*swiftshader/);
    expect(hub.state().nodes).toEqual([]);
  });
}

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
