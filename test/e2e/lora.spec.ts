import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readModelSpec } from '../../src/engine/model/read-spec.ts';
import { folderFiles } from '../support/folder-files.ts';
import { adapterContents, mergedContents, randomAdapter } from '../support/lora-adapter.ts';
import { PICO } from '../support/test-hub.ts';
import { clientOf } from './client.ts';
import { BROWSER, expect, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

let dir = '';
test.beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'quire-lora-'));
});
test.afterAll(() => rm(dir, { recursive: true }));

async function writeFolder(name: string, contents: Record<string, Uint8Array>): Promise<string> {
  const folder = path.join(dir, name);
  await mkdir(folder);
  for (const [file, bytes] of Object.entries(contents)) await writeFile(path.join(folder, file), bytes);
  return folder;
}

async function ask(url: string, model: string) {
  const { choices } = await clientOf(url).completions.create({
    ...{ model, prompt: 'Once upon a time there was a little house at the end of the road' },
    ...{ temperature: 0, max_tokens: 16, logprobs: 1, ignore_eos: true },
  });
  const { tokens, token_logprobs } = choices[0]!.logprobs!;
  return { tokens: tokens!, logprobs: token_logprobs! };
}

async function admin(url: string, call: 'load' | 'unload'): Promise<number> {
  const response = await fetch(`${url}/v1/${call}_lora_adapter`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ lora_name: 'tuned' }),
  });
  return response.status;
}

test('an adapter that is loaded by its name answers like a model with it in its weights, until it is unloaded', async ({
  startTestHub,
  context,
}) => {
  // Both models have its shapes: it says which one it is for.
  const adapter = randomAdapter(await readModelSpec(folderFiles(PICO)), {
    ...{ seed: 5, size: 0.2, dtype: 'BF16', config: { base_model_name_or_path: 'quire-pico' } },
  });
  const merged = await writeFolder('merged', mergedContents(PICO, adapter));
  await writeFolder('tuned', adapterContents(adapter));
  const { url } = await startTestHub({
    models: [
      { folder: PICO, servedName: null },
      { folder: merged, servedName: null },
    ],
    loras: { modules: [], dir, most: 1, maxRank: 8 },
    nodeOptions: { 'max-loras': '1', 'max-lora-rank': '8' },
  });
  await Promise.all([openReadyNode(context, url), openReadyNode(context, url)]);
  const plain = await ask(url, 'quire-pico');
  await expect(ask(url, 'tuned')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });

  expect(await admin(url, 'load')).toBe(200);
  const { data } = await clientOf(url).models.list();
  expect(data.find(({ id }) => id === 'tuned')).toMatchObject({ parent: 'quire-pico' });
  const [tuned, same, beside] = await Promise.all([ask(url, 'tuned'), ask(url, 'merged'), ask(url, 'quire-pico')]);
  expect(tuned.tokens).toEqual(same.tokens);
  for (const [i, logprob] of tuned.logprobs.entries()) expect(logprob).toBeCloseTo(same.logprobs[i]!, 2);
  expect(tuned.tokens).not.toEqual(plain.tokens);
  expect(beside).toEqual(plain);

  expect(await admin(url, 'unload')).toBe(200);
  await expect(ask(url, 'tuned')).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
  expect(await ask(url, 'quire-pico')).toEqual(plain);
});
