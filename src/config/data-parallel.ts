import { OptionError } from './option.ts';

/** The data-parallel ranks of a node: `engines` of them, from `first` on. */
export interface DataParallel {
  readonly first: number;
  readonly engines: number;
}

/** A node has all ranks of its group, or the one that it is pinned to. Throws `OptionError` for a rank outside the group. */
export function dataParallel(options: {
  readonly 'data-parallel-size': number;
  readonly 'data-parallel-rank': number | null;
}): DataParallel {
  const size = options['data-parallel-size'];
  const rank = options['data-parallel-rank'];
  if (rank === null) return { first: 0, engines: size };
  if (rank < size) return { first: rank, engines: 1 };
  throw new OptionError(
    `data-parallel-rank ${rank}: a group of data-parallel-size ${size} has the ranks 0 to ${size - 1}. Raise the size, or lower the rank.`,
  );
}
