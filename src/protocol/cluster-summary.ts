import * as z from 'zod';
import { adapterName } from './adapter-name.ts';
import { ClusterNode, ClusterState } from './cluster-state.ts';
import { loadSum } from './load-sum.ts';
import { NodeStage, Role } from './messages.ts';

const count = z.number().int().min(0);

/** Nodes that are alike: same model, role, stage and adapter. Figures are those of all of them together. */
export const NodeGroup = z.object({
  model: z.string(),
  /** null until its nodes have registered. */
  role: Role.nullable(),
  /** `unhealthy`: its health check failed, whatever its stage. */
  stage: NodeStage.or(z.literal('unhealthy')),
  /** Name of the adapter; '' until its nodes have registered. */
  adapter: z.string(),
  software: z.boolean(),
  nodes: count,
  activeRequests: count,
  tokensPerSecond: z.number(),
  sequences: count,
  maxSequences: count,
  usedBlocks: count,
  totalBlocks: count,
});
export type NodeGroup = z.infer<typeof NodeGroup>;

/** Most nodes, and most groups, that `GET /cluster/summary` lists. */
export const MAX_LISTED = 64;

/** Answer of `GET /cluster/summary`: the state of a cluster of any size in an answer of bounded size, for pages. */
export const ClusterSummary = ClusterState.extend({
  /** At most `MAX_LISTED`, those that joined first. */
  nodes: z.array(ClusterNode),
  /** The hub's clock, Unix milliseconds: pages' own clocks may differ. */
  now: z.number(),
  nodeCount: count,
  readyNodes: count,
  /** The largest first, at most `MAX_LISTED`. */
  groups: z.array(NodeGroup),
});
export type ClusterSummary = z.infer<typeof ClusterSummary>;

export function summaryOf(state: ClusterState, now: number): ClusterSummary {
  return {
    ...state,
    now,
    nodes: state.nodes.slice(0, MAX_LISTED),
    nodeCount: state.nodes.length,
    readyNodes: state.nodes.filter((node) => shownStage(node) === 'ready').length,
    groups: groupsOf(state.nodes).slice(0, MAX_LISTED),
  };
}

/** Its stage, unless its health check failed. */
export const shownStage = ({ stage, unhealthy }: ClusterNode): NodeGroup['stage'] =>
  unhealthy === null ? stage : 'unhealthy';

/** Equal keys are one group. */
export function groupKey({ model, role, stage, adapter }: Pick<NodeGroup, 'model' | 'role' | 'stage' | 'adapter'>) {
  return JSON.stringify([model, role, stage, adapter]);
}

/** The group that a node belongs to, as far as it tells groups apart. */
export function groupOf(node: ClusterNode): Pick<NodeGroup, 'model' | 'role' | 'stage' | 'adapter'> {
  const { card, model } = node;
  return {
    model,
    role: card?.role ?? null,
    stage: shownStage(node),
    adapter: card === null ? '' : adapterName(card.adapter),
  };
}

function groupsOf(nodes: readonly ClusterNode[]): NodeGroup[] {
  const groups = new Map<string, NodeGroup>();
  for (const node of nodes) {
    const like = groupOf(node);
    const key = groupKey(like);
    let group = groups.get(key);
    if (group === undefined) {
      const none = { activeRequests: 0, tokensPerSecond: 0, sequences: 0, maxSequences: 0 };
      const software = node.card?.adapter.software ?? false;
      group = { ...like, software, nodes: 0, ...none, usedBlocks: 0, totalBlocks: 0 };
      groups.set(key, group);
    }
    group.nodes += 1;
    group.activeRequests += node.activeRequests;
    group.maxSequences += (node.card?.maxNumSeqs ?? 0) * (node.card?.dpSize ?? 0);
    const load = loadSum(node.loads);
    group.tokensPerSecond += load.tokensPerSecond;
    group.sequences += load.running + load.waiting;
    group.usedBlocks += load.usedBlocks;
    group.totalBlocks += load.totalBlocks;
  }
  return [...groups]
    .sort(([a, one], [b, other]) => other.nodes - one.nodes || (a < b ? -1 : 1))
    .map(([, group]) => group);
}
