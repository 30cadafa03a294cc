/** Between two questions to the hub, at least. */
const SHORTEST_MS = 1000;
/** The same on a page that the hub itself opened, where nobody looks. */
const HEADLESS_MS = 15_000;
/** A slow hub or line is asked less: at most this part of the time goes by in asking. */
const LARGEST_SHARE = 0.2;

/** How long to wait after a question that took `tookMs`. */
export const pauseAfter = (tookMs: number, headless: boolean): number =>
  Math.max(headless ? HEADLESS_MS : SHORTEST_MS, tookMs / LARGEST_SHARE);

/** Calls `refresh` again and again while the page is visible. Never resolves. */
export async function watchCluster(refresh: () => Promise<void>, headless: boolean): Promise<never> {
  for (;;) {
    if (document.hidden)
      await new Promise((seen) => document.addEventListener('visibilitychange', seen, { once: true }));
    const began = performance.now();
    await refresh();
    const pause = pauseAfter(performance.now() - began, headless);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
