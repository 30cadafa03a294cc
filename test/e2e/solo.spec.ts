import { cp, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { serve } from '@hono/node-server';
import { serveStatic } from '@hono/node-server/serve-static';
import type { Page } from '@playwright/test';
import { Hono } from 'hono';
import type OpenAI from 'openai';
import { keepWorkers } from './client.ts';
import { expectConversations } from './conversations.ts';
import { dropFiles } from './drop-files.ts';
import { BROWSER, expect, expectStage, ROOT, test } from './fixture.ts';
import { soloClient } from './solo-client.ts';

test.use(BROWSER);

const SUB_PATH = '/some/where/deep';

/** The solo build on a plain file server, in a folder; `asked` are the requests. */
async function serveSolo(): Promise<{ url: string; asked: string[]; close(): void }> {
  const asked: string[] = [];
  const files = new Hono();
  files.use(async (c, next) => {
    asked.push(`${c.req.method} ${c.req.path}`);
    await next();
  });
  files.use(
    `${SUB_PATH}/*`,
    serveStatic({ root: path.join(ROOT, 'dist/solo'), rewriteRequestPath: (url) => url.slice(SUB_PATH.length) }),
  );
  const server = await new Promise<ReturnType<typeof serve>>((resolve) => {
    const starting = serve({ fetch: files.fetch, port: 0, hostname: '127.0.0.1' }, () => resolve(starting));
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the file server has no port');
  return {
    url: `http://127.0.0.1:${address.port}${SUB_PATH}/?allow-software-adapter`,
    asked,
    close: () => void server.close(),
  };
}

async function expectPico(page: Page): Promise<void> {
  await page.getByTestId('prompt').fill('Who are you?');
  await page.getByTestId('send').click();
  const answer = page.getByTestId('answer').last();
  await expect(answer).toHaveAttribute('data-state', 'done');
  await expect(answer).toContainText('I am Pico');
}

/** The API inside the page is the hub's: chat with reasoning and tools, tokens of a text and back, refusals. */
async function expectApi(client: OpenAI): Promise<void> {
  await expectConversations(client);
  const post = <T>(path: string, body: object) => client.post<T>(new URL(path, client.baseURL).href, { body });
  const { tokens, count } = await post<{ tokens: number[]; count: number }>('/tokenize', { prompt: 'Who are you?' });
  expect(tokens).toHaveLength(count);
  expect(await post('/detokenize', { tokens })).toEqual({ prompt: 'Who are you?' });
  const answer = { model: 'quire-pico', prompt: tokens, max_tokens: 1, echo: true };
  expect((await client.completions.create(answer)).choices[0]!.text).toMatch(/^Who are you\?/);
  const refused = await client.completions.create({ ...answer, suffix: 'x' }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ status: 400, param: 'suffix' });
}

/** Drops the files of a folder, some of them with other contents. */
async function drop(page: Page, folder: string, change: Record<string, string> = {}): Promise<void> {
  const names = (await readdir(folder)).filter((name) => !(name in change));
  const read = async (name: string) => (await readFile(path.join(folder, name))).toString('base64');
  const contents = await Promise.all(names.map(async (name) => [name, await read(name)] as const));
  const changed = Object.entries(change).map(([name, text]) => [name, Buffer.from(text).toString('base64')] as const);
  await dropFiles(page, [...contents, ...changed]);
}

test('the solo build chats from a sub-path of a plain file server, with no hub', async ({ page, context }) => {
  const server = await serveSolo();
  try {
    await keepWorkers(context);
    await page.goto(server.url);
    await expectStage(page, 'ready');
    await expectPico(page);
    await expectApi(soloClient(page));
    // A browser asks for an icon by itself.
    const outside = (line: string) => !line.startsWith(`GET ${SUB_PATH}/`) && line !== 'GET /favicon.ico';
    expect(server.asked.filter(outside)).toEqual([]);
  } finally {
    server.close();
  }
});

test('files that are dropped, or a folder that is chosen, run in the place of the model beside the page', async ({
  page,
}, testInfo) => {
  const folder = testInfo.outputPath('my pico');
  await cp(path.join(ROOT, 'models/quire-pico'), folder, { recursive: true });
  const server = await serveSolo();
  try {
    await page.goto(server.url);
    const config = JSON.parse(await readFile(path.join(folder, 'config.json'), 'utf8'));
    await drop(page, folder, { 'config.json': JSON.stringify({ ...config, model_type: 'mamba' }) });
    await expectStage(page, 'refused');
    await expect(page.getByTestId('problem')).toContainText('model_type "mamba" is not supported');

    await drop(page, folder);
    await expect(page.getByTestId('hub')).toContainText('local-model');
    await expectStage(page, 'ready');
    await expectPico(page);

    const before = server.asked.length;
    await page.getByTestId('model-folder').setInputFiles(folder);
    await expect(page.getByTestId('hub')).toContainText('my-pico');
    await expectStage(page, 'ready');
    await expectPico(page);
    expect(server.asked.slice(before)).toEqual([]);
  } finally {
    server.close();
  }
});

test('a page of a hub that lends nothing runs a model of its own, and lends again', async ({ page, startTestHub }) => {
  const { hub, url } = await startTestHub();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'ready');
  await drop(page, path.join(ROOT, 'models/quire-pico'));
  await expect(page.getByTestId('open-problem')).toContainText('Press Leave first');

  await page.getByTestId('leave').click();
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
  await drop(page, path.join(ROOT, 'models/quire-pico'));
  await expect(page.getByTestId('model')).toContainText('local-model');
  await expectStage(page, 'ready');
  expect(hub.state().nodes).toEqual([]);
  await expectPico(page);

  await page.getByTestId('leave').click();
  await expect(page.getByTestId('stage')).toHaveAttribute('data-state', 'idle');
  await page.getByTestId('join').click();
  await expect.poll(() => hub.state().nodes.map((node) => node.stage)).toEqual(['ready']);
});
