/** Frames and events of one message, as the protocol bounds it. */
const MAX_BATCH = 4096;

/** `items` in parts that a message holds. */
export function* batches<T>(items: readonly T[]): Generator<T[]> {
  for (let i = 0; i < items.length; i += MAX_BATCH) yield items.slice(i, i + MAX_BATCH);
}
