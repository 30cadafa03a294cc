import path from 'node:path';
import { Writable } from 'node:stream';
import { type BrowserContext, test as base, expect, type Page } from '@playwright/test';
import { pino } from 'pino';
import type { HubConfig } from '../../src/hub/config.ts';
import type { Hub } from '../../src/hub/hub.ts';
import { launchOptionsFor } from '../../src/playwright/browser.ts';
import { quireFixtures } from '../../src/playwright/fixtures.ts';
import { READY_MS, settled } from '../../src/playwright/settled.ts';
import { startTestHub } from '../support/test-hub.ts';

export const ROOT = path.resolve(import.meta.dirname, '../..');
const PAGE = path.join(ROOT, 'dist/page');

/** A hub of this test, with the page as it was built, and what it logged. */
export interface TestHub {
  readonly hub: Hub;
  readonly url: string;
  /** How many requests for model files were answered. */
  modelRequests(): number;
}

/** What `quire/playwright` exports. */
const quireTest = base.extend(quireFixtures);

interface Fixtures {
  /** Starts a hub that is closed at the end of the test. */
  startTestHub: (config?: Partial<HubConfig>) => Promise<TestHub>;
}

export const test = quireTest.extend<Fixtures>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the fixtures that are wanted from the pattern
  startTestHub: async ({}, use) => {
    const hubs: Hub[] = [];
    await use(async (config = {}) => {
      const messages: string[] = [];
      const sink = new Writable({
        write(line: Buffer, _encoding, done) {
          messages.push((JSON.parse(line.toString()) as { msg: string }).msg);
          done();
        },
      });
      const { limits = {}, ...rest } = config;
      const hub = await startTestHub({ staticDir: PAGE, ...rest }, limits, pino({ level: 'debug' }, sink));
      hubs.push(hub);
      return { hub, url: hub.url, modelRequests: () => messages.filter((message) => message === '/models/').length };
    });
    for (const hub of hubs) await hub.close({ graceSeconds: 0 });
  },
});

/** Every test of a file runs in one Chromium on the software adapter. */
export const BROWSER = { quireAdapter: 'software', launchOptions: launchOptionsFor('software') } as const;

/** Opens a page that joins, and waits until it serves. */
export async function openReadyNode(context: BrowserContext, url: string): Promise<Page> {
  const page = await context.newPage();
  await page.goto(`${url}/?allow-software-adapter`);
  await expectStage(page, 'ready');
  return page;
}

/** Waits until the page's node has come as far as it goes by itself: it serves, or it will not. */
export async function expectStage(page: Page, stage: 'ready' | 'refused'): Promise<void> {
  expect(await settled(page)).toMatchObject({ stage });
}

export { expect, READY_MS };
