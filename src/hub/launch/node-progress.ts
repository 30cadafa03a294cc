import type { Page } from 'playwright';

/** How the start of a headless node ended. */
export type NodeStart =
  | { readonly outcome: 'ready' }
  /** It told why it cannot serve, or the browser did. */
  | { readonly outcome: 'failed'; readonly reason: string }
  /** It is still about it. */
  | { readonly outcome: 'waiting'; readonly phase: string };

const LOOK_MS = 250;

/** What the page shows of its node: `data-state` of the stage, and the problem's text. */
interface Shown {
  readonly phase: string;
  readonly problem: string;
}

/**
 * Follows a node's page until its node is ready or cannot be, at most `timeoutMs`; `tell` hears of each phase once.
 * The page is the witness, since a node that refuses itself (no adapter, failed self-test) never registers.
 */
export async function followNode(page: Page, tell: (phase: string) => void, timeoutMs: number): Promise<NodeStart> {
  const end = Date.now() + timeoutMs;
  let phase = 'idle';
  while (Date.now() < end) {
    const shown = await look(page).catch((error: unknown): Shown => {
      return { phase: 'gone', problem: `its page ended: ${error instanceof Error ? error.message : String(error)}` };
    });
    if (shown !== null && shown.phase !== phase) {
      phase = shown.phase;
      tell(phase);
    }
    if (phase === 'ready') return { outcome: 'ready' };
    if (phase === 'refused' || phase === 'gone') return { outcome: 'failed', reason: shown?.problem || phase };
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return { outcome: 'waiting', phase };
}

function look(page: Page): Promise<Shown | null> {
  return page.evaluate(() => {
    const phase = document.querySelector('[data-testid="stage"]')?.getAttribute('data-state');
    const problem = document.querySelector('[data-testid="problem"]')?.textContent ?? '';
    return phase ? { phase, problem } : null;
  });
}
