/**
 * The items of several iterables as they come; each iterable is asked for its next item only when the last one was taken.
 * The first error ends all. Leaving early, or an error, tells every iterable to return, without waiting for one that does not.
 */
export async function* merge<T>(sources: readonly AsyncIterable<T>[]): AsyncGenerator<T, void, void> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const next = async (at: number) => ({ at, result: await (iterators[at] as AsyncIterator<T>).next() });
  const waiting = new Map(iterators.map((_, at) => [at, next(at)]));
  try {
    while (waiting.size > 0) {
      const { at, result } = await Promise.race(waiting.values());
      if (result.done === true) {
        waiting.delete(at);
      } else {
        yield result.value;
        // To the end of the line: a source that always has an item must not hold up the others.
        waiting.delete(at);
        waiting.set(at, next(at));
      }
    }
  } finally {
    for (const pending of waiting.values()) pending.catch(() => {});
    for (const at of waiting.keys()) iterators[at]?.return?.().catch(() => {});
  }
}
