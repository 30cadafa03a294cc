import path from 'node:path';
import type { HubConfig } from '../../src/hub/config.ts';
import { startTestHub } from '../support/test-hub.ts';
import { openReadyNode, ROOT, test } from './fixture.ts';

/** A hub with one page, which all tests of a file share: called at its top. `url` is the hub's, from the first test on. */
export function sharedNode(config: Partial<HubConfig> = {}): { readonly url: string } {
  const shared = { url: '' };
  let close = async () => {};
  test.beforeAll(async ({ browser }) => {
    const { limits = {}, ...rest } = config;
    const hub = await startTestHub({ staticDir: path.join(ROOT, 'dist/page'), ...rest }, limits);
    const context = await browser.newContext();
    close = async () => {
      await context.close();
      await hub.close({ graceSeconds: 0 });
    };
    shared.url = hub.url;
    await openReadyNode(context, hub.url);
  });
  test.afterAll(() => close());
  return shared;
}
