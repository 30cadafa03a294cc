import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from '../../src/config/options.ts';
import { hubConfig } from '../../src/hub/launch/hub-config.ts';
import { ModelSource } from '../support/model-source.ts';
import { BROWSER, expect, openReadyNode, ROOT, test } from './fixture.ts';

test.use(BROWSER);

const FILES = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'];

test('--model org/name goes from its source over the hub into a page, and answers', async ({
  context,
  startTestHub,
}, testInfo) => {
  const bytes = await Promise.all(FILES.map((name) => readFile(path.join(ROOT, 'models/quire-pico', name))));
  const source = await ModelSource.start(Object.fromEntries(FILES.map((name, i) => [name, bytes[i]!])));
  try {
    const env = { HF_ENDPOINT: source.endpoint, QUIRE_HF_ALLOWED_HOSTS: source.cdnHost };
    const { models } = await hubConfig(parseArgs(['--model', 'org/tiny@main'], env), {
      root: ROOT,
      hostname: 'test',
      lanAddresses: [],
      now: () => new Date(),
      modelCache: testInfo.outputPath('models'),
      say: () => {},
    });
    const { url } = await startTestHub({ models });
    const page = await openReadyNode(context, url);
    await expect(page.getByTestId('model')).toContainText('org/tiny');
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'org/tiny',
        messages: [{ role: 'user', content: 'Who are you?' }],
        temperature: 0,
      }),
    });
    const answer = (await response.json()) as { choices: { message: { content: string } }[] };
    expect(answer.choices[0]?.message.content).toContain('I am Pico');
  } finally {
    source.close();
  }
});
