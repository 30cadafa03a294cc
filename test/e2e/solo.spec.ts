import path from 'node:path';
import { serve } from '@hono/node-server';
import { serveStatic } from '@hono/node-server/serve-static';
import { Hono } from 'hono';
import { BROWSER, expect, expectStage, ROOT, test } from './fixture.ts';

test.use(BROWSER);

const SUB_PATH = '/some/where/deep';

test('the solo build chats from a sub-path of a plain file server, with no hub', async ({ page }) => {
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
  try {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the file server has no port');
    await page.goto(`http://127.0.0.1:${address.port}${SUB_PATH}/?allow-software-adapter`);
    await expectStage(page, 'ready');
    await page.getByTestId('prompt').fill('Who are you?');
    await page.getByTestId('send').click();
    const answer = page.getByTestId('answer').last();
    await expect(answer).toHaveAttribute('data-state', 'done');
    await expect(answer).toContainText('I am Pico');
    // A browser asks for an icon by itself.
    expect(asked.filter((line) => !line.startsWith(`GET ${SUB_PATH}/`) && line !== 'GET /favicon.ico')).toEqual([]);
  } finally {
    server.close();
  }
});
