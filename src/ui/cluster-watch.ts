/** Between two questions to the hub, at least. */
const SHORTEST_MS = 1000;
/** The same on a page that the hub itself opened, where nobody looks. */
const HEADLESS_MS = 15_000;
/** A slow hub, line or page asks less: it waits this many times as long as the answer took. */
const TIMES = 2;
/** But what is shown never gets older than this and an answer's time. */
const LONGEST_MS = 5000;

/** How long to wait after a question that took `tookMs`. */
export const pauseAfter = (tookMs: number, headless: boolean): number =>
  headless ? HEADLESS_MS : Math.min(LONGEST_MS, Math.max(SHORTEST_MS, TIMES * tookMs));

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
