import * as z from 'zod';
import { MAX_RANKS } from '../protocol/messages.ts';
import { dropNulls } from './drop-nulls.ts';
import { badRequest } from './errors.ts';

/** A request went on on another node. */
export interface Migration {
  /** The attempt that began; the first node's is 0. */
  readonly attempt: number;
  /** Ids of the nodes. */
  readonly from: string;
  readonly to: string;
  /** Tokens that all choices had by then. */
  readonly tokens: number;
  /** Tokens before and after it are not of one numerics id: they need not be what an unbroken run gives. */
  readonly numericsChanged: boolean;
}

/** What a request says of the node and the rank that shall compute it; null and missing = the router's own. */
export interface RouteWish {
  readonly node: string | null;
  /** Its data-parallel rank. */
  readonly rank: number | null;
  /** The prefill node that shall compute the prompt, where one does. */
  readonly prefill?: PrefilledBy | null;
  readonly knobs: {
    readonly overlapScoreCredit?: number;
    readonly prefillLoadScale?: number;
    readonly temperature?: number;
  };
}

/** Where a prompt is computed. */
export interface Routed {
  readonly node: string;
  readonly rank: number;
  /** Leading blocks of the prompt that the router knew in the node's prefix cache. */
  readonly overlapBlocks: number;
  readonly promptBlocks: number;
}

export type PrefilledBy = Pick<Routed, 'node' | 'rank'>;

/** What came of letting another node compute a prompt. */
export type KvTransfer =
  | {
      readonly kind: 'done';
      readonly prefillNode: string;
      readonly prefillRank: number;
      readonly transport: string;
      readonly blocks: number;
      readonly bytes: number;
      /** Prompt tokens that the prefill node computed, and those that its own prefix cache had. */
      readonly remoteTokens: number;
      readonly cachedTokens: number;
      readonly milliseconds: number;
      /** The two nodes are not of one numerics id: the answer need not be what one of them alone gives. */
      readonly numericsChanged: boolean;
    }
  /** The node that computes the answer computed the prompt itself. */
  | {
      readonly kind: 'fallback';
      readonly prefillNode: string;
      readonly transport: string | null;
      readonly why: string;
      readonly message: string;
    };

/** What a backend gets with a prompt: the wish, and whom to tell where the prompt went, each time it goes to a node. */
export interface Routing extends RouteWish {
  routed(to: Routed): void;
  /** Told what came of a transfer, before the first frame that follows it. */
  transferred(transfer: KvTransfer): void;
  /** Told of each migration, before the first frame that follows it. */
  migrated(migration: Migration): void;
}

const rank = z
  .number()
  .int()
  .min(0)
  .max(MAX_RANKS - 1);

/** Dynamo's extension of the OpenAI API: the parts of it that mean something here, by Dynamo's names. */
export const Nvext = z.preprocess(
  dropNulls,
  z.strictObject({
    backend_instance_id: z.string().min(1).max(128).optional(),
    dp_rank: rank.optional(),
    router_config_override: z
      .strictObject({
        overlap_score_credit: z.number().min(0).max(1).optional(),
        prefill_load_scale: z.number().min(0).max(1000).optional(),
        router_temperature: z.number().min(0).max(1000).optional(),
      })
      .optional(),
    extra_fields: z
      .array(z.enum(['worker_id', 'timing']))
      .max(8)
      .optional(),
  }),
);
export type Nvext = z.infer<typeof Nvext>;

/** Of headers `x-quire-node` and (vLLM's) `x-data-parallel-rank`, and field `nvext`. Throws `ApiError` 400 where they contradict each other. */
export function routeWish(headers: Headers, nvext: Nvext | undefined): RouteWish {
  const header = headers.get('x-quire-node');
  const field = nvext?.backend_instance_id;
  if (header !== null && field !== undefined && header !== field) {
    throw badRequest(
      "The header 'x-quire-node' and the field 'nvext.backend_instance_id' name two nodes: send one of them.",
      'nvext.backend_instance_id',
    );
  }
  const { overlap_score_credit, prefill_load_scale, router_temperature } = nvext?.router_config_override ?? {};
  return {
    node: header ?? field ?? null,
    rank: rankWish(headers.get('x-data-parallel-rank'), nvext?.dp_rank),
    knobs: {
      ...(overlap_score_credit === undefined ? {} : { overlapScoreCredit: overlap_score_credit }),
      ...(prefill_load_scale === undefined ? {} : { prefillLoadScale: prefill_load_scale }),
      ...(router_temperature === undefined ? {} : { temperature: router_temperature }),
    },
  };
}

function rankWish(header: string | null, field: number | undefined): number | null {
  if (header === null) return field ?? null;
  const read = rank.safeParse(Number(header));
  if (!read.success)
    throw badRequest(`The header 'x-data-parallel-rank' is a whole number from 0 to ${MAX_RANKS - 1}.`);
  if (field !== undefined && field !== read.data) {
    throw badRequest(
      "The header 'x-data-parallel-rank' and the field 'nvext.dp_rank' name two ranks: send one of them.",
      'nvext.dp_rank',
    );
  }
  return read.data;
}

/** The routing of one API request: its wish, and where each of its prompts went. */
export class RouteReport {
  /** Of all prompts, as they happened. */
  readonly migrations: Migration[] = [];
  readonly #routed: Routed[] = [];
  /** Node and rank that computed each prompt for the attempt that runs. */
  readonly #prefilled: PrefilledBy[] = [];
  readonly #transfers: KvTransfer[] = [];

  constructor(private readonly wish: RouteWish) {}

  /** What the backend gets with prompt number `prompt`. */
  of(prompt: number): Routing {
    return {
      ...this.wish,
      migrated: (migration) => this.migrations.push(migration),
      routed: (to) => {
        this.#routed[prompt] = to;
        this.#prefilled[prompt] = to;
      },
      transferred: (transfer) => {
        this.#transfers[prompt] = transfer;
        if (transfer.kind === 'done')
          this.#prefilled[prompt] = { node: transfer.prefillNode, rank: transfer.prefillRank };
      },
    };
  }

  /** Where a prompt is computed now; undefined where there are no nodes to choose from. */
  at(prompt: number): Routed | undefined {
    return this.#routed[prompt];
  }

  /** The node that computed a prompt; it need not be the one that computes its answer. */
  prefilledBy(prompt: number): PrefilledBy | undefined {
    return this.#prefilled[prompt];
  }

  /** The last transfer that was tried for a prompt. */
  transfer(prompt: number): KvTransfer | undefined {
    return this.#transfers[prompt];
  }

  /** That of the first prompt that had one. */
  anyTransfer(): KvTransfer | undefined {
    return this.#transfers.find((transfer) => transfer !== undefined);
  }

  /** `x-quire-node`, `x-quire-dp-rank` and `x-quire-overlap-blocks`, one entry a prompt; `x-quire-prefill-node` where one was computed by another node. */
  headers(): Record<string, string> {
    const routed = this.#routed.filter((each) => each !== undefined);
    if (routed.length === 0) return {};
    const remote = this.#prefilled.some(({ node }, prompt) => node !== this.#routed[prompt]?.node);
    return {
      'x-quire-node': routed.map(({ node }) => node).join(', '),
      'x-quire-dp-rank': routed.map(({ rank }) => rank).join(', '),
      'x-quire-overlap-blocks': routed.map(({ overlapBlocks }) => overlapBlocks).join(', '),
      ...(remote ? { 'x-quire-prefill-node': this.#prefilled.flatMap((by) => by?.node ?? []).join(', ') } : {}),
    };
  }
}
