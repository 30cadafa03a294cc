import type { Page } from 'playwright';

/** How far a node's page came: it serves, or it will not. */
export type Settled =
  | { readonly stage: 'ready'; readonly node: string }
  | { readonly stage: 'refused' | 'gone'; readonly code: string; readonly problem: string };

/** Loading, compiling and the self-test take their time on a software adapter. */
export const READY_MS = 120_000;

/** Problems that say: here is no adapter of the wanted kind. */
export const NO_ADAPTER: ReadonlySet<string> = new Set(['no_adapter', 'software_adapter', 'no-webgpu']);

/** Waits until the page's node has come as far as it goes by itself. Rejects after `READY_MS`, with the stage that it was in. */
export async function settled(page: Page): Promise<Settled> {
  const stage = page.getByTestId('stage');
  try {
    await page
      .locator('[data-testid="stage"]:is([data-state="ready"], [data-state="refused"], [data-state="gone"])')
      .waitFor({
        timeout: READY_MS,
      });
  } catch (error) {
    const at = await stage.getAttribute('data-state', { timeout: 1000 }).catch(() => 'not drawn');
    throw new Error(`The node of ${page.url()} is ${at} after ${READY_MS / 1000} seconds.`, { cause: error });
  }
  const state = await stage.getAttribute('data-state');
  if (state === 'ready') return { stage: 'ready', node: (await stage.getAttribute('data-node')) ?? '' };
  const notice = page.locator('.notice[data-state]').first();
  return {
    stage: state === 'gone' ? 'gone' : 'refused',
    code: (await notice.getAttribute('data-state')) ?? '',
    problem: (await notice.getByTestId('problem').textContent()) ?? '',
  };
}
