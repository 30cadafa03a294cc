/** Time as the state machines of hub and node see it; tests put a fake in its place. */
export interface Clock {
  /** Milliseconds; only differences mean something. */
  now(): number;
  /** Calls `task` once after `ms`; the returned function takes it back. */
  after(ms: number, task: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, task) {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};
