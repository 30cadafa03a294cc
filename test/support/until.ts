const MOST_MS = 60_000;

/** Resolves when the condition holds; rejects after a minute, which even a machine with much else to do does not need. */
export async function until(condition: () => boolean, what: () => unknown = () => ''): Promise<void> {
  const end = performance.now() + MOST_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not reached in a minute: ${condition} ${JSON.stringify(what())}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
