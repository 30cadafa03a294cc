import type { Page } from 'playwright';

/** How the start of a headless node ended. */
export type NodeStart =
  | { readonly outcome: 'ready' }
  /** It told why it cannot serve, or the browser did. */
  | { readonly outcome: 'failed'; readonly reason: string }
  /** It is still about it. */
  | { readonly outcome: 'waiting'; readonly stage: string };

const LOOK_MS = 250;

/** What the page shows of its node: `data-state` of the stage, and the problem's text. */
interface Shown {
  readonly stage: string;
  readonly problem: string;
}

/**
 * Follows a node's page until its node is ready or cannot be, at most `timeoutMs`; `tell` hears of each stage once.
 * The page is the witness, since a node that refuses itself (no adapter, failed self-test) never registers.
 */
export async function followNode(page: Page, tell: (stage: string) => void, timeoutMs: number): Promise<NodeStart> {
  const end = Date.now() + timeoutMs;
  let stage = 'idle';
  while (Date.now() < end) {
    const shown = await look(page).catch((error: unknown): Shown => {
      return { stage: 'gone', problem: `its page ended: ${error instanceof Error ? error.message : String(error)}` };
    });
    if (shown !== null && shown.stage !== stage) {
      stage = shown.stage;
      tell(stage);
    }
    if (stage === 'ready') return { outcome: 'ready' };
    if (stage === 'refused' || stage === 'gone') return { outcome: 'failed', reason: shown?.problem || stage };
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return { outcome: 'waiting', stage };
}

function look(page: Page): Promise<Shown | null> {
  return page.evaluate(() => {
    const stage = document.querySelector('[data-testid="stage"]')?.getAttribute('data-state');
    const problem = document.querySelector('[data-testid="problem"]')?.textContent ?? '';
    return stage ? { stage, problem } : null;
  });
}
