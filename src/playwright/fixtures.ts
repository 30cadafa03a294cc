import os from 'node:os';
import { fileURLToPath } from 'node:url';
import type {
  BrowserContext,
  Fixtures,
  PlaywrightTestArgs,
  PlaywrightWorkerArgs,
  PlaywrightWorkerOptions,
  TestInfo,
} from '@playwright/test';
import { pino } from 'pino';
import { parseArgs } from '../config/options.ts';
import { type Hub, startHub } from '../hub/hub.ts';
import { hubConfig } from '../hub/launch/hub-config.ts';
import { defaultModelCache } from '../hub/launch/models.ts';
import { adapterName } from '../protocol/adapter-name.ts';
import { joinLinkOf } from '../protocol/join-link.ts';
import { launchOptionsFor } from './browser.ts';
import { builtPage } from './built-page.ts';
import type { QuireFixtures, QuireHub, QuireNode, QuireOptions } from './entry.d.mts';
import { NO_ADAPTER, settled } from './settled.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

type TestFixtures = QuireFixtures & Pick<QuireOptions, 'quireFlags'>;
type WorkerFixtures = Pick<QuireOptions, 'quireAdapter'>;

/** What `quire/playwright` adds to a Playwright test (docs/playwright.md). */
export const quireFixtures: Fixtures<
  TestFixtures,
  WorkerFixtures,
  PlaywrightTestArgs,
  PlaywrightWorkerArgs & PlaywrightWorkerOptions
> = {
  quireAdapter: ['hardware', { scope: 'worker', option: true }],
  quireFlags: [[], { option: true }],
  // The browser of `page` and `context` too: a node and what a test does beside it are in one.
  launchOptions: [async ({ quireAdapter }, use) => use(launchOptionsFor(quireAdapter)), { scope: 'worker' }],
  quireHub: async ({ context, quireAdapter, quireFlags }, use, testInfo) => {
    const defaults = ['--http-port', '0', '--log-level', 'error'];
    const parsed = parseArgs([...defaults, ...quireFlags], {});
    const here = {
      root: ROOT,
      hostname: 'localhost',
      lanAddresses: [],
      now: () => new Date(),
      modelCache: defaultModelCache(process.env, os.homedir()),
      say: (line: string) => console.log(line),
    };
    const config = { ...(await hubConfig(parsed, here)), staticDir: await builtPage(ROOT) };
    const hub = await startHub(config, { log: pino({ level: parsed.options['log-level'] }, pino.destination(2)) });
    const open = nodeOpener(hub, context, config.joinToken, quireAdapter, testInfo);
    await use({ url: hub.url, models: hub.models, apiKey: config.apiKeys[0] ?? null, openNode: open });
    await hub.close({ graceSeconds: 0, drainSeconds: 0 });
  },
  quireNode: async ({ quireHub }, use) => use(await quireHub.openNode()),
};

function nodeOpener(
  hub: Hub,
  context: BrowserContext,
  joinToken: string | null,
  adapter: QuireOptions['quireAdapter'],
  testInfo: TestInfo,
): QuireHub['openNode'] {
  return async (query = {}): Promise<QuireNode> => {
    const page = await context.newPage();
    const link = new URL(joinLinkOf(hub.url, joinToken));
    const software = adapter === 'software' ? { 'allow-software-adapter': 'true' } : {};
    link.search = new URLSearchParams({ ...software, ...query }).toString();
    await page.goto(link.href);
    const end = await settled(page);
    if (end.stage !== 'ready') {
      if (NO_ADAPTER.has(end.code)) testInfo.skip(true, end.problem);
      throw new Error(`The node cannot serve (${end.code}): ${end.problem}`);
    }
    const card = hub.state().nodes.find(({ id }) => id === end.node)?.card;
    if (!card) throw new Error(`The hub does not know node ${end.node}, whose page says that it is ready.`);
    return { id: end.node, page, adapter: { name: adapterName(card.adapter), ...card.adapter } };
  };
}
