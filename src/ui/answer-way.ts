/** By which nodes an answer was made, as headers and `nvext` of the API tell it; pure. */
import * as z from 'zod';

const count = z.number().min(0);

/** The parts of an answer's `nvext` that the page shows. */
export const AnswerNvext = z.object({
  kv_transfer: z
    .object({
      prefill_node: z.string(),
      transport: z.string().nullish(),
      blocks: count.nullish(),
      bytes: count.nullish(),
      milliseconds: count.nullish(),
      remote_tokens: count.nullish(),
      fallback: z.string().nullish(),
      message: z.string().nullish(),
    })
    .nullish(),
  migrations: z
    .array(
      z.object({ from_node: z.string(), to_node: z.string(), completion_tokens: count, numerics_changed: z.boolean() }),
    )
    .nullish(),
});
export type AnswerNvext = z.infer<typeof AnswerNvext>;

export interface AnswerWay {
  /** The node that computes the answer now. */
  readonly node: string;
  /** The data-parallel rank there; null where it went on elsewhere. */
  readonly rank: number | null;
  /** Leading blocks of the prompt that the router knew in the node's prefix cache. */
  readonly overlapBlocks: number;
  /** What came of letting another node compute the prompt; null = none was asked to. */
  readonly transfer: NonNullable<AnswerNvext['kv_transfer']> | null;
  /** Oldest first. */
  readonly migrations: NonNullable<AnswerNvext['migrations']>;
}

/** From the headers of a response; null where no node is named, as in an answer of this page alone. */
export function wayOf(headers: Headers): AnswerWay | null {
  const node = headers.get('x-quire-node');
  if (node === null) return null;
  const overlapBlocks = Number(headers.get('x-quire-overlap-blocks') ?? 0) || 0;
  const rank = Number(headers.get('x-quire-dp-rank') ?? 0) || 0;
  return { node, rank, overlapBlocks, transfer: null, migrations: [] };
}

/** The way with what one more chunk tells of it. */
export function wayWith(way: AnswerWay | null, nvext: AnswerNvext | null): AnswerWay | null {
  if (way === null || nvext === null) return way;
  const migrations = [...way.migrations, ...(nvext.migrations ?? [])];
  return {
    ...way,
    node: migrations.at(-1)?.to_node ?? way.node,
    rank: migrations.length > 0 ? null : way.rank,
    transfer: nvext.kv_transfer ?? way.transfer,
    migrations,
  };
}
