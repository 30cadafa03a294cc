import type { TokensFrame } from '../protocol/generate.ts';

/** Frames and events of one message, as the protocol bounds it. */
const MAX_BATCH = 4096;
/** Characters of the embeddings in one message, far below the longest that a hub takes. */
const MAX_EMBEDDINGS = 1 << 20;

/** `items` in parts that a message holds. */
export function* batches<T>(items: readonly T[], most = MAX_BATCH): Generator<T[]> {
  for (let i = 0; i < items.length; i += most) yield items.slice(i, i + most);
}

/** The same of frames, which may hold embeddings. */
export function frameBatches<T extends Pick<TokensFrame, 'embedding'>>(frames: readonly T[]): Generator<T[]> {
  const longest = frames.reduce((most, { embedding }) => Math.max(most, embedding?.length ?? 0), 1);
  return batches(frames, Math.min(MAX_BATCH, Math.max(1, Math.floor(MAX_EMBEDDINGS / longest))));
}
