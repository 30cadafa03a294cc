import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { PoolingType } from '../../src/protocol/pooling.ts';
import { picoTokenizer } from '../support/pico-tokenizer.ts';
import { PICO } from '../support/test-hub.ts';
import { WholeReference } from '../support/whole-reference.ts';
import { clientOf } from './client.ts';
import { dropFiles } from './drop-files.ts';
import { BROWSER, expect, expectStage, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

const TEXTS = ['What is 17 + 25?', 'Once upon a time there was a small stone.', 'Hi'];

/** Cosine of each text's embedding and what the CPU makes of the text in float64. */
function agreement(embeddings: readonly (readonly number[])[], type: PoolingType): number[] {
  const cpu = new WholeReference(PICO);
  const tokenizer = picoTokenizer();
  const length = (values: Iterable<number>) => Math.hypot(...values);
  return TEXTS.map((text, i) => {
    const rows = cpu.normed(tokenizer.encode(text, true));
    const want = type === 'LAST' ? rows.at(-1)! : rows.reduce((sum, row) => sum.map((value, d) => value + row[d]!));
    const got = embeddings[i]!;
    return want.reduce((sum, value, d) => sum + value * got[d]!, 0) / length(want) / length(got);
  });
}

for (const type of ['LAST', 'MEAN'] as const) {
  test(`a page gives embeddings: ${type}`, async ({ startTestHub, context }) => {
    const { url } = await startTestHub({ pooler: { runner: 'pooling', config: { pooling_type: type } } });
    const page = await openReadyNode(context, url);
    const client = clientOf(url);
    // As the official client asks by itself: base64, which it decodes.
    const { data, usage } = await client.embeddings.create({ model: 'quire-pico', input: TEXTS });
    const embeddings = data.map(({ embedding }) => embedding);
    for (const embedding of embeddings) expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
    for (const cosine of agreement(embeddings, type)) expect(cosine).toBeGreaterThan(0.9999);
    for (const cosine of agreement(embeddings, type === 'LAST' ? 'MEAN' : 'LAST').slice(0, 2))
      expect(cosine).toBeLessThan(0.99);
    expect(usage.total_tokens).toBe(usage.prompt_tokens);
    const float = await client.embeddings.create({ model: 'quire-pico', input: TEXTS[0]!, encoding_format: 'float' });
    expect(float.data[0]!.embedding).toEqual(embeddings[0]);
    await expect(
      client.chat.completions.create({ model: 'quire-pico', messages: [{ role: 'user', content: 'Hi' }] }),
    ).rejects.toMatchObject({ status: 400, message: expect.stringContaining('is an embedding model') });
    await page.close();
  });
}

test('a folder of sentence-transformers that is dropped onto a page says what it is for', async ({
  startTestHub,
  page,
}) => {
  const { url } = await startTestHub();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'ready');
  await page.getByTestId('leave').click();
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
  const read = async (name: string) => (await readFile(path.join(PICO, name))).toString('base64');
  const files = await Promise.all((await readdir(PICO)).map(async (name) => [name, await read(name)] as const));
  const json = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64');
  const modules = ['Transformer', 'Pooling', 'Normalize'].map((kind, i) => ({
    idx: i,
    name: String(i),
    path: i === 0 ? '' : `${i}_${kind}`,
    type: `sentence_transformers.models.${kind}`,
  }));
  await dropFiles(page, [
    ...files,
    ['modules.json', json(modules)],
    ['1_Pooling/config.json', json({ pooling_mode_lasttoken: true })],
  ]);
  await expectStage(page, 'ready');
  await page.getByTestId('prompt').fill('Who are you?');
  await page.getByTestId('send').click();
  await expect(page.getByTestId('answer').last()).toContainText('is an embedding model');
});
