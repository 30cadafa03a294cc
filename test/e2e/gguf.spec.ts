import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { splitGguf } from '../support/gguf-file.ts';
import { picoGguf, picoParts } from '../support/pico-gguf.ts';
import { clientOf } from './client.ts';
import { dropFiles } from './drop-files.ts';
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

test('a GGUF file in parts that is dropped onto a page runs there, with the tokenizer and template in it', async ({
  startTestHub,
  page,
}) => {
  test.setTimeout(300_000);
  const { hub, url } = await startTestHub();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'ready');
  await page.getByTestId('leave').click();
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
  const parts = Object.entries(splitGguf('pico-Q8_0', picoParts('Q8_0'), 30));
  await dropFiles(
    page,
    parts.map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')]),
  );
  await expect(page.getByTestId('model')).toContainText('pico-Q8_0');
  await expectStage(page, 'ready');
  expect(hub.state().nodes).toEqual([]);
  await page.getByTestId('prompt').fill('What is 17 + 25?');
  await page.getByTestId('send').click();
  const answer = page.getByTestId('answer').last();
  await expect(answer).toHaveAttribute('data-state', 'done');
  await expect(answer).toContainText('17 + 25 = 42.');
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
