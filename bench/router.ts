import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { KvIndex } from '../src/hub/router/kv-index.ts';
import type { RouterModeName } from '../src/hub/router/mode.ts';
import { Router } from '../src/hub/router/router.ts';
import type { GenerateRequest } from '../src/protocol/generate.ts';
import { type BlockHasher, createBlockHasher } from '../src/protocol/hashes.ts';
import type { KvEvent } from '../src/protocol/kv-events.ts';
import { GREEDY } from '../src/protocol/sampling.ts';
import { PrefixCache } from '../test/support/prefix-cache.ts';
import { cardOf, drawer, RoutingSimulation, type SimulatedNode } from '../test/support/routing-simulation.ts';
import { quantile, short, table } from './table.ts';

const BLOCK = 16;
const KNOBS = { overlapScoreCredit: 1, prefillLoadScale: 1, temperature: 0 };
const FOUR: readonly SimulatedNode[] = ['a', 'b', 'c', 'd'].map((id) => ({ id, speed: 1, blocks: 640 }));
/** The cache and the speed of all four in one. */
const ONE: readonly SimulatedNode[] = [{ id: 'big', speed: 4, blocks: 4 * 640 }];

/** What the router is worth, in simulated time, and what it costs, in real time. */
export async function benchRouter(): Promise<string> {
  const hasher = await createBlockHasher('xxh3');
  return [workloads(hasher), ...CLUSTERS.map((cluster) => routeTimes(hasher, cluster))].join('\n');
}

type Workload = (cluster: RoutingSimulation) => void;

/** 8 system prompts of 1,024 tokens x 20 questions of 64, in mixed order, answers of 50 tokens. */
const sharedPrefix: Workload = (cluster) => {
  const draw = drawer();
  const ids = (count: number) => Array.from({ length: count }, () => Math.floor(draw() * 30_000));
  const systems = Array.from({ length: 8 }, () => ids(1024));
  const questions = systems.flatMap((system) => Array.from({ length: 20 }, () => [...system, ...ids(64)]));
  const order = questions.map((prompt) => ({ prompt, at: draw() })).sort((a, b) => a.at - b.at);
  for (const { prompt } of order) {
    cluster.send(prompt, ids(50));
    cluster.clock.advance(-Math.log(draw()) * 250);
  }
};

/** 24 conversations of 6 turns; each turn adds 100 tokens to all that was said, each answer 60; about 4 s between two turns. */
const multiTurn: Workload = (cluster) => {
  const draw = drawer();
  const ids = (count: number) => Array.from({ length: count }, () => Math.floor(draw() * 30_000));
  const turn = (history: readonly number[], left: number): void => {
    const prompt = [...history, ...ids(100)];
    const answer = ids(60);
    cluster.send(prompt, answer, () => {
      if (left > 1) cluster.clock.after(-Math.log(draw()) * 4000, () => turn([...prompt, ...answer], left - 1));
    });
  };
  for (let conversation = 0; conversation < 24; conversation++) {
    turn([], 6);
    cluster.clock.advance(-Math.log(draw()) * 300);
  }
};

function workloads(hasher: BlockHasher): string {
  const rows: (string | number)[][] = [];
  for (const [name, workload] of [
    ['shared prefixes', sharedPrefix],
    ['multi-turn', multiTurn],
  ] as const) {
    const big = played(workload, ONE, 'kv', hasher);
    rows.push([name, 'one big node', ...columns(big, big)]);
    for (const mode of ['kv', 'round-robin', 'random', 'least-loaded'] as const)
      rows.push([name, `4 nodes, ${mode}`, ...columns(played(workload, FOUR, mode, hasher), big)]);
    const sticky = { ...KNOBS, prefillLoadScale: 4 };
    rows.push([
      name,
      '4 nodes, kv, prefill load scale 4',
      ...columns(played(workload, FOUR, 'kv', hasher, sticky), big),
    ]);
  }
  return table(
    'Router: simulated nodes, 1,000 prompt tokens and 50 tokens of each sequence a second; caches of 640 blocks of 16 tokens',
    ['workload', 'nodes', 'cached share', 'of the big node', 'TTFT ms, p50', 'TTFT ms, p99', 'most / mean requests'],
    rows,
  );
}

function played(
  workload: Workload,
  nodes: readonly SimulatedNode[],
  mode: RouterModeName,
  hasher: BlockHasher,
  knobs = KNOBS,
) {
  const cluster = new RoutingSimulation(nodes, { mode, knobs }, hasher, BLOCK);
  workload(cluster);
  cluster.clock.advance(1e7);
  return { answers: cluster.answers, nodes: nodes.length };
}

type Played = ReturnType<typeof played>;

function columns({ answers, nodes }: Played, big: Played): string[] {
  const times = answers.map(({ firstTokenMs }) => firstTokenMs);
  const counts = new Map<string, number>();
  for (const { node } of answers) counts.set(node, (counts.get(node) ?? 0) + 1);
  return [
    share(answers).toFixed(3),
    `${Math.round((100 * share(answers)) / share(big.answers))} %`,
    short(quantile(times, 0.5)),
    short(quantile(times, 0.99)),
    (Math.max(...counts.values()) / (answers.length / nodes)).toFixed(2),
  ];
}

function share(answers: Played['answers']): number {
  const sum = (read: (answer: Played['answers'][number]) => number) =>
    answers.reduce((all, each) => all + read(each), 0);
  return sum((answer) => answer.cachedTokens) / sum((answer) => answer.promptTokens);
}

/** A million blocks, in few large caches and in many small ones. */
const CLUSTERS = [
  { nodes: 64, sequences: 244 },
  { nodes: 5000, sequences: 3 },
];
const SEQUENCE_BLOCKS = 64;

/** Memory and time with a million blocks, in sequences of 64; prompts of 1,025 tokens. */
function routeTimes(hasher: BlockHasher, { nodes: count, sequences }: (typeof CLUSTERS)[number]): string {
  const nodes = Array.from({ length: count }, (_, i) => ({
    id: `node-${i}`,
    rank: 0,
    card: cardOf({ id: '', speed: 1, blocks: 1 << 17 }, BLOCK),
  }));
  const prompt = (node: number, sequence: number) =>
    Array.from(
      { length: SEQUENCE_BLOCKS * BLOCK + 1 },
      (_, i) => (node * 7919 + sequence * 50_000_017 + i * 31) % 4_000_000_007,
    );
  const before = heap();
  const index = new KvIndex(hasher, BLOCK);
  let intake = 0;
  for (const [at, { id, card }] of nodes.entries()) {
    const rank = index.open(id, 0, card);
    const events: KvEvent[] = [];
    const cache = new PrefixCache(hasher, BLOCK);
    for (let sequence = 0; sequence < sequences; sequence++) cache.compute(prompt(at, sequence));
    events.push(...cache.takeEvents());
    const began = performance.now();
    if (rank.append(events).kind !== 'taken') throw new Error('the index refused an event');
    intake += performance.now() - began;
  }
  const blocks = count * sequences * SEQUENCE_BLOCKS;
  const perBlock = (heap() - before) / blocks;
  const router = new Router({ config: { mode: 'kv', knobs: KNOBS }, index, clock: performance, random: Math.random });
  const rows = [
    ['nothing cached', (i: number) => prompt(1_000_000 + i, 9)],
    ['half cached', (i: number) => [...prompt(i % count, 1).slice(0, 512), ...prompt(2_000_000 + i, 9).slice(0, 513)]],
    ['all 64 blocks cached', (i: number) => prompt(i % count, i % sequences)],
  ] as const;
  const measured = rows.map(([name, make]) => {
    const micros: number[] = [];
    for (let i = 0; i < 3000; i++) {
      const request: GenerateRequest = {
        request: `${name} ${i}`,
        prompt: make(i),
        choices: [{ choice: 0, generated: [] }],
        sampling: GREEDY,
      };
      const began = performance.now();
      router.choose(request, nodes, { node: null, rank: null, knobs: {} });
      if (i >= 1000) micros.push((performance.now() - began) * 1000);
    }
    return [name, short(quantile(micros, 0.5)), short(quantile(micros, 0.99))];
  });
  const title = `Router: ${blocks.toLocaleString('en')} blocks of ${count.toLocaleString('en')} nodes; ${short(perBlock)} bytes of heap a block; ${short(blocks / intake)} thousand blocks a second checked and taken in`;
  return table(title, ['prompt of 1,025 tokens', 'µs to route, p50', 'p99'], measured);
}

/** Bytes in use after a collection. */
function heap(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}
