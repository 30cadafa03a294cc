/**
 * Keeps a lending page at work while nobody looks at it. A page that holds a Web Lock is not frozen by Chrome
 * (https://developer.chrome.com/docs/web-platform/page-lifecycle-api, "freeze" opt-outs), and its timers and sockets live in
 * a worker, which browsers throttle less. Returns the function that lets the page sleep again.
 */
export function keepAlive(locks: LockManager | undefined): () => void {
  if (!locks) return () => {};
  let release: () => void = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  void locks.request(`quire-node-${crypto.randomUUID()}`, () => held);
  return () => release();
}
