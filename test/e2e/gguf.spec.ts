import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { picoGguf } from '../support/pico-gguf.ts';
import { clientOf } from './client.ts';
import { BROWSER, expect, expectStage, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

test('a page loads a GGUF file from its hub and answers', async ({ startTestHub, context }) => {
  test.setTimeout(300_000);
  const folder = await mkdtemp(path.join(tmpdir(), 'quire-gguf-'));
  try {
    const file = path.join(folder, 'pico-Q8_0.gguf');
    await writeFile(file, picoGguf('Q8_0'));
    const { url } = await startTestHub({ models: [{ folder: file, servedName: null }] });
    await openReadyNode(context, url);
    const completion = await clientOf(url).chat.completions.create({
      model: 'pico-Q8_0',
      messages: [{ role: 'user', content: 'What is 17 + 25?' }],
      temperature: 0,
    });
    expect(completion.choices[0]?.message.content).toBe('17 + 25 = 42.');
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('?quantization=int8 on a page', async ({ startTestHub, context }) => {
  test.setTimeout(300_000);
  const { hub, url } = await startTestHub();
  const page = await context.newPage();
  await page.goto(`${url}/?allow-software-adapter&quantization=int8`);
  await expectStage(page, 'ready');
  const completion = await clientOf(url).chat.completions.create({
    model: 'quire-pico',
    messages: [{ role: 'user', content: 'What is 17 + 25?' }],
    temperature: 0,
  });
  expect(completion.choices[0]?.message.content).toBe('17 + 25 = 42.');
  expect(hub.state().nodes[0]?.card?.numericsId).toContain('/int8/');
});
