import * as z from 'zod';
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

/** What a request says of the node that shall compute it; null and missing = the router's own. */
export interface RouteWish {
  readonly node: string | null;
  readonly knobs: {
    readonly overlapScoreCredit?: number;
    readonly prefillLoadScale?: number;
    readonly temperature?: number;
  };
}

/** Where a prompt is computed. */
export interface Routed {
  readonly node: string;
  /** Leading blocks of the prompt that the router knew in the node's prefix cache. */
  readonly overlapBlocks: number;
  readonly promptBlocks: number;
}

/** What came of letting another node compute a prompt. */
export type KvTransfer =
  | {
      readonly kind: 'done';
      readonly prefillNode: string;
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

/** Dynamo's extension of the OpenAI API: the parts of it that mean something here, by Dynamo's names. */
export const Nvext = z.preprocess(
  dropNulls,
  z.strictObject({
    backend_instance_id: z.string().min(1).max(128).optional(),
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

/** Of header `x-quire-node` and field `nvext`. Throws `ApiError` 400 where they name two nodes. */
export function routeWish(header: string | null, nvext: Nvext | undefined): RouteWish {
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
    knobs: {
      ...(overlap_score_credit === undefined ? {} : { overlapScoreCredit: overlap_score_credit }),
      ...(prefill_load_scale === undefined ? {} : { prefillLoadScale: prefill_load_scale }),
      ...(router_temperature === undefined ? {} : { temperature: router_temperature }),
    },
  };
}

/** The routing of one API request: its wish, and where each of its prompts went. */
export class RouteReport {
  /** Of all prompts, as they happened. */
  readonly migrations: Migration[] = [];
  readonly #routed: Routed[] = [];
  /** Node that computed each prompt for the attempt that runs. */
  readonly #prefilled: string[] = [];
  readonly #transfers: KvTransfer[] = [];

  constructor(private readonly wish: RouteWish) {}

  /** What the backend gets with prompt number `prompt`. */
  of(prompt: number): Routing {
    return {
      ...this.wish,
      migrated: (migration) => this.migrations.push(migration),
      routed: (to) => {
        this.#routed[prompt] = to;
        this.#prefilled[prompt] = to.node;
      },
      transferred: (transfer) => {
        this.#transfers[prompt] = transfer;
        if (transfer.kind === 'done') this.#prefilled[prompt] = transfer.prefillNode;
      },
    };
  }

  /** Where a prompt is computed now; undefined where there are no nodes to choose from. */
  at(prompt: number): Routed | undefined {
    return this.#routed[prompt];
  }

  /** The node that computed a prompt; it need not be the one that computes its answer. */
  prefilledBy(prompt: number): string | undefined {
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

  /** `x-quire-node` and `x-quire-overlap-blocks`, one entry a prompt; `x-quire-prefill-node` where one was computed by another node. */
  headers(): Record<string, string> {
    const routed = this.#routed.filter((each) => each !== undefined);
    if (routed.length === 0) return {};
    const remote = this.#prefilled.some((node, prompt) => node !== this.#routed[prompt]?.node);
    return {
      'x-quire-node': routed.map(({ node }) => node).join(', '),
      'x-quire-overlap-blocks': routed.map(({ overlapBlocks }) => overlapBlocks).join(', '),
      ...(remote ? { 'x-quire-prefill-node': this.#prefilled.filter((node) => node !== undefined).join(', ') } : {}),
    };
  }
}
