import * as z from 'zod';
import { Card, Load, NodeStage } from './messages.ts';

const count = z.number().int().min(0);

/** One node as the hub sees it. */
export const ClusterNode = z.object({
  id: z.string(),
  stage: NodeStage,
  /** What the node said with its last stage, e.g. the file that it loads. */
  detail: z.string(),
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
  load: Load.nullable(),
  /** Requests and sequences that the hub has on this node now (its own count, ahead of `load`). */
  activeRequests: count,
  activeSequences: count,
  /** Of all its ranks: KV events taken in order, and gaps found in them. */
  kvEvents: z.object({ count, gaps: count }),
});
export type ClusterNode = z.infer<typeof ClusterNode>;

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
});
export type ClusterState = z.infer<typeof ClusterState>;
