import { expect, test } from 'vitest';
import type { ClusterNode, ClusterState } from '../../../src/protocol/cluster-state.ts';
import { ClusterSummary, groupKey, groupOf, MAX_LISTED, summaryOf } from '../../../src/protocol/cluster-summary.ts';

const COUNTERS = { steps: 0, mixedSteps: 0, submits: 0, overlappedSubmits: 0, rows: 0, decodeRows: 0, prefillRows: 0 };

function node(at: number, role: 'agg' | 'prefill', device: string): ClusterNode {
  const adapter = { vendor: 'v', architecture: '', device, description: '', software: false, features: [] };
  const shape = { blockSize: 16, totalBlocks: 100, maxModelLen: 512, maxNumSeqs: 8, maxNumBatchedTokens: 256 };
  const load = { rank: 0, running: 2, waiting: 1, usedBlocks: 10, totalBlocks: 100, tokensPerSecond: 5 };
  return {
    ...{
      id: `node-${at}`,
      stage: 'ready',
      detail: '',
      unhealthy: null,
      loadedBytes: 0,
      totalBytes: 0,
      agent: 'test',
      joinedAt: at,
    },
    ...{ model: 'm', activeRequests: 1, activeSequences: 1, kvEvents: { count: 0, gaps: 0 }, loras: [] },
    card: {
      ...{ model: 'm', fingerprint: 'f', numericsId: 'n', role, dpRank: 0, dpSize: 1, adapter, ...shape },
      ...{ kvCacheDtype: 'f32', hashAlgo: 'xxh3', transports: [], localScope: null },
    },
    loads: [
      {
        ...load,
        counters: {
          ...COUNTERS,
          ...{ sampledTokens: 0, cachedTokens: 0, draftTokens: 0, acceptedTokens: 0, preemptions: 0 },
        },
      },
    ],
  };
}

function state(nodes: ClusterNode[]): ClusterState {
  const totals = { transfers: 0, blocks: 0, bytes: 0, fallBacks: 0 };
  return {
    ...{ startedAt: 0, namespace: 'dynamo', models: [], nodes, inflightRequests: 0 },
    ...{ migrations: 0, totals, transfers: [], happenings: [] },
  };
}

test('nodes that are alike are one group, whose figures are those of all of them', () => {
  const joining: ClusterNode = { ...node(9, 'agg', 'x'), stage: 'joining', card: null, loads: [] };
  const nodes = [node(1, 'agg', 'x'), node(2, 'agg', 'x'), node(3, 'prefill', 'x'), node(4, 'agg', 'y'), joining];
  const summary = summaryOf(state(nodes), 77);
  expect(summary).toMatchObject({ now: 77, nodeCount: 5, readyNodes: 4 });
  expect(summary.groups).toHaveLength(4);
  expect(summary.groups[0]).toEqual({
    ...{ model: 'm', role: 'agg', stage: 'ready', adapter: 'v x', software: false, nodes: 2 },
    ...{ activeRequests: 2, tokensPerSecond: 10, sequences: 6, maxSequences: 16, usedBlocks: 20, totalBlocks: 200 },
  });
  expect(summary.groups).toContainEqual(
    expect.objectContaining({ stage: 'joining', role: null, adapter: '', nodes: 1 }),
  );
  // What a page finds in a group is what the hub counted there.
  const keys = nodes.map((each) => groupKey(groupOf(each)));
  for (const group of summary.groups) expect(keys.filter((key) => key === groupKey(group))).toHaveLength(group.nodes);
});

test('a node whose health check failed is not ready, and in no group with those that are', () => {
  const ill: ClusterNode = { ...node(2, 'agg', 'x'), unhealthy: 'no answer within 5 s' };
  const summary = ClusterSummary.parse(summaryOf(state([node(1, 'agg', 'x'), ill]), 0));
  expect(summary).toMatchObject({ nodeCount: 2, readyNodes: 1 });
  expect(summary.groups.map(({ stage, nodes }) => [stage, nodes])).toEqual([
    ['ready', 1],
    ['unhealthy', 1],
  ]);
});

test('an answer stays small however many nodes there are, and however different', () => {
  const nodes = Array.from({ length: 5000 }, (_, at) => node(at, 'agg', `d${at}`));
  const summary = ClusterSummary.parse(summaryOf(state(nodes), 0));
  expect(summary.nodes).toEqual(nodes.slice(0, MAX_LISTED));
  expect([summary.nodeCount, summary.groups.length]).toEqual([5000, MAX_LISTED]);
});
