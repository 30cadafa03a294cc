import * as z from 'zod';
import { Card, Load, NodeStage } from './messages.ts';
import { TransportName } from './transfer.ts';

const count = z.number().int().min(0);

/** One node as the hub sees it. */
export const ClusterNode = z.object({
  id: z.string(),
  stage: NodeStage,
  /** What the node said with its last stage, e.g. the file that it loads. */
  detail: z.string(),
  /** Why its health check failed, after which it takes no requests until it passes; null = it did not. */
  unhealthy: z.string().nullable(),
  loadedBytes: count,
  totalBytes: count,
  /** Browser or program, as the node named it. */
  agent: z.string(),
  /** Unix milliseconds. */
  joinedAt: z.number(),
  /** Served name of the model that the hub offered. */
  model: z.string(),
  /** null until the node has registered. */
  card: Card.nullable(),
  /** Of each data-parallel rank, lowest first; those that have not told it are left out. */
  loads: z.array(Load),
  /** Requests and sequences that the hub has on this node now (its own count, ahead of `loads`). */
  activeRequests: count,
  activeSequences: count,
  /** Of all its ranks: KV events taken in order, and gaps found in them. */
  kvEvents: z.object({ count, gaps: count }),
  /** Names of the LoRA adapters that are on its GPU, as it says. */
  loras: z.array(z.string()),
});
export type ClusterNode = z.infer<typeof ClusterNode>;

const text = z.string();
const happened = {
  /** Counts from 1 over all happenings of the hub, so that a reader knows which ones are new. */
  number: count,
  /** Unix milliseconds. */
  at: z.number(),
  /** The hub's own number of the request, which says nothing of who sent it. */
  request: count,
  model: text,
};

/** One thing that happened to a request, for people to see. Nodes are named by their ids. */
export const Happening = z.discriminatedUnion('kind', [
  /** The request went to a node that computes its answer. `prefillNode`: another one shall compute its prompt. */
  z.object({
    ...happened,
    kind: z.literal('routed'),
    node: text,
    rank: count,
    prefillNode: text.nullable(),
    attempt: count,
    overlapBlocks: count,
    promptBlocks: count,
  }),
  /** The prefill node did its part for `decodeNode`. */
  z.object({
    ...happened,
    kind: z.literal('prefilled'),
    node: text,
    decodeNode: text,
    computedTokens: count,
    blocks: count,
    bytes: count,
  }),
  /** The blocks are in the decode node's prefix cache. */
  z.object({
    ...happened,
    kind: z.literal('transferred'),
    from: text,
    to: text,
    transport: TransportName,
    blocks: count,
    bytes: count,
    milliseconds: z.number(),
  }),
  /** Nothing came of a transfer: the decode node computes the prompt itself. */
  z.object({
    ...happened,
    kind: z.literal('fell_back'),
    node: text,
    prefillNode: text,
    transport: TransportName.nullable(),
    why: text,
    message: text,
  }),
  /** The request goes on on another node. */
  z.object({
    ...happened,
    kind: z.literal('migrated'),
    from: text,
    to: text,
    attempt: count,
    completionTokens: count,
    numericsChanged: z.boolean(),
  }),
]);
export type Happening = z.infer<typeof Happening>;

/** KV blocks on their way between two nodes. */
export const ActiveTransfer = z.object({
  request: count,
  prefillNode: text,
  decodeNode: text,
  /** null until the decode node has opened its end. */
  transport: TransportName.nullable(),
  /** Blocks that the decode node wants; 0 until it has said so. */
  blocks: count,
  /** Unix milliseconds. */
  startedAt: z.number(),
});
export type ActiveTransfer = z.infer<typeof ActiveTransfer>;

/** Most happenings of one kind (so that a burst of one kind hides no other), and most transfers, that `GET /cluster/state` lists. */
export const MAX_HAPPENINGS = 32;

/** Of all that happened since the hub's start. */
export const HappeningTotals = z.object({ transfers: count, blocks: count, bytes: count, fallBacks: count });
export type HappeningTotals = z.infer<typeof HappeningTotals>;

/** Answer of `GET /cluster/state`. */
export const ClusterState = z.object({
  /** Unix milliseconds of the hub's start. */
  startedAt: z.number(),
  /** The hub's `--namespace`. */
  namespace: z.string(),
  models: z.array(z.object({ name: z.string(), fingerprint: z.string(), readyNodes: count, maxModelLen: count })),
  nodes: z.array(ClusterNode),
  inflightRequests: count,
  /** Requests that went on on another node, since the hub's start. */
  migrations: count,
  totals: HappeningTotals,
  /** KV transfers now, oldest first, at most `MAX_HAPPENINGS` of them. */
  transfers: z.array(ActiveTransfer),
  /** The last things that happened, oldest first, at most `MAX_HAPPENINGS` of each kind. */
  happenings: z.array(Happening),
});
export type ClusterState = z.infer<typeof ClusterState>;
