import { Counter, Gauge, type Registry } from 'prom-client';
import type { ClusterNode } from '../protocol/cluster-state.ts';
import type { Load } from '../protocol/messages.ts';

/** What the metrics read of the hub when somebody asks for them. */
export interface ClusterSource {
  /** Of the nodes, as label `dynamo_namespace` of their series. */
  readonly namespace: string;
  /** Served names. */
  readonly models: readonly string[];
  nodes(): readonly ClusterNode[];
  inflight(): number;
  queued(): number;
}

/** Most ranks with series of their own: a label must not grow without bound. The sums count all. */
const MAX_SERIES = 256;

/** `quire_node_<name>_total` of each rank of a node: `Load.counters`. */
const NODE_COUNTERS: readonly (readonly [keyof Load['counters'], string, string])[] = [
  ['steps', 'steps', 'Engine steps'],
  ['mixedSteps', 'mixed_steps', 'Steps with both prefill and decode rows'],
  ['submits', 'submits', 'Submits to the GPU queue'],
  ['overlappedSubmits', 'overlapped_submits', 'Submits made while the readback of an earlier step was pending'],
  ['rows', 'rows', 'Rows computed'],
  ['decodeRows', 'decode_rows', 'Rows of decodes'],
  ['prefillRows', 'prefill_rows', 'Rows of prefills'],
  ['sampledTokens', 'sampled_tokens', 'Tokens sampled'],
  ['cachedTokens', 'cached_tokens', 'Prompt tokens taken from the prefix cache'],
  ['draftTokens', 'draft_tokens', 'Drafts found by prompt lookup'],
  ['acceptedTokens', 'accepted_tokens', 'Drafts that were right'],
  ['preemptions', 'preemptions', 'Sequences preempted, to be computed again later'],
];

/** `vllm:<name>_total` of a model: what its nodes counted. */
const MODEL_COUNTERS: readonly (readonly [keyof Load['counters'], string, string])[] = [
  ['preemptions', 'num_preemptions', 'Sequences preempted on the nodes'],
  ['draftTokens', 'spec_decode_num_draft_tokens', 'Drafts found on the nodes'],
  ['acceptedTokens', 'spec_decode_num_accepted_tokens', 'Drafts that were right'],
];

/** Series of the nodes, read from the source at each scrape. */
export function nodeMetrics(registry: Registry, source: ClusterSource): void {
  const registers = [registry];
  const { namespace: dynamo_namespace } = source;
  const loads = (model: string) => source.nodes().flatMap((node) => (node.model === model ? node.loads : []));
  const modelGauge = (name: string, help: string, read: (loads: readonly Load[]) => number) =>
    new Gauge({
      name: `vllm:${name}`,
      help,
      labelNames: ['model_name'],
      registers,
      collect() {
        for (const model_name of source.models) this.set({ model_name }, read(loads(model_name)));
      },
    });
  modelGauge('num_requests_running', 'Sequences that run on the nodes.', (all) => sum(all, 'running'));
  modelGauge('num_requests_waiting', 'Sequences that wait on the nodes.', (all) => sum(all, 'waiting'));
  modelGauge('kv_cache_usage_perc', 'Used KV blocks of all KV blocks, 0 to 1.', (all) =>
    all.length === 0 ? 0 : sum(all, 'usedBlocks') / Math.max(1, sum(all, 'totalBlocks')),
  );
  for (const counter of MODEL_COUNTERS) modelCounter(registry, source, ...counter);
  const limit = (name: string, help: string, read: (node: ClusterNode) => number) =>
    new Gauge({
      name: `dynamo_frontend_model_${name}`,
      help,
      labelNames: ['model'],
      registers,
      collect() {
        for (const model of source.models) {
          const all = source.nodes().filter((node) => node.model === model);
          this.set(
            { model },
            all.reduce((total, node) => total + read(node), 0),
          );
        }
      },
    });
  limit('total_kv_blocks', 'KV blocks of all nodes.', (node) => sum(node.loads, 'totalBlocks'));
  limit('max_num_seqs', 'Sequences that may run at once on all nodes.', ({ card }) =>
    card === null ? 0 : card.maxNumSeqs * card.dpSize,
  );
  new Gauge({
    name: 'quire_nodes',
    help: 'Nodes of the cluster by stage.',
    labelNames: ['dynamo_namespace', 'model_name', 'stage'],
    registers,
    collect() {
      this.reset();
      for (const { model, stage } of source.nodes()) this.inc({ dynamo_namespace, model_name: model, stage });
    },
  });
  for (const [field, name, help] of NODE_COUNTERS) {
    new Counter({
      name: `quire_node_${name}_total`,
      help: `${help}, since the node's engine started.`,
      labelNames: ['dynamo_namespace', 'node', 'dp_rank', 'model_name'],
      registers,
      collect() {
        this.reset();
        for (const { node, rank, model, counters } of ranks(source).slice(0, MAX_SERIES))
          this.inc({ dynamo_namespace, node, dp_rank: rank, model_name: model }, counters[field]);
      },
    });
  }
}

/** All ranks of all nodes. */
function ranks(source: ClusterSource) {
  return source.nodes().flatMap(({ id, model, loads }) => loads.map((load) => ({ node: id, model, ...load })));
}

/** A counter of the hub must not fall when a node leaves: it adds up what each rank's own counter grew by. */
function modelCounter(
  registry: Registry,
  source: ClusterSource,
  field: keyof Load['counters'],
  name: string,
  help: string,
): void {
  const seen = new Map<string, number>();
  new Counter({
    name: `vllm:${name}_total`,
    help: `${help}, as of their last load reports.`,
    labelNames: ['model_name'],
    registers: [registry],
    collect() {
      const nodes = ranks(source).map((each) => ({ ...each, id: `${each.node}:${each.rank}` }));
      const here = new Set(nodes.map(({ id }) => id));
      for (const id of seen.keys()) if (!here.has(id)) seen.delete(id);
      for (const model_name of source.models) this.inc({ model_name }, 0);
      for (const { id, model, counters } of nodes) {
        const now = counters[field];
        const before = seen.get(id) ?? 0;
        // A counter that fell is that of a new engine.
        this.inc({ model_name: model }, now >= before ? now - before : now);
        seen.set(id, now);
      }
    },
  });
}

function sum(loads: readonly Load[], field: 'running' | 'waiting' | 'usedBlocks' | 'totalBlocks'): number {
  return loads.reduce((total, load) => total + load[field], 0);
}
