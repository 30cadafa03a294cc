import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { ScriptedNode } from '../test/support/scripted-node.ts';
import { median, quantile, short, table } from './table.ts';
import { readStream } from './token-stream.ts';

const STREAMS = [1, 32, 256];
const RUNS = 3;
/** Tokens of each stream. */
const STEPS = 200;
/** A node's step gives one token to each stream, so often. */
const STEP_MS = 25;
/** The first tokens set up what the later ones use. */
const SKIPPED = 20;

/** What the hub adds to each token: CPU time of its process, and time between a node's socket and a client's. */
export async function benchHub(): Promise<string> {
  const hub = fork(new URL('hub-process.ts', import.meta.url), { execArgv: ['--import', 'tsx'] });
  try {
    const [{ url }] = (await once(hub, 'message')) as [{ url: string }];
    const node = await ScriptedNode.join(url, { reply: null, card: { maxNumSeqs: 256, totalBlocks: 8192 } });
    // Code that ran seldom is not optimized yet, and takes several times as long.
    await oneRun(hub, url, node, Math.max(...STREAMS));
    const rows: (string | number)[][] = [];
    for (const streams of STREAMS) {
      const runs: Run[] = [];
      for (let run = 0; run < RUNS; run++) runs.push(await oneRun(hub, url, node, streams));
      const of = (read: (run: Run) => number) => short(median(runs.map(read)));
      rows.push([
        streams,
        of((run) => run.tokensPerSecond),
        of((run) => run.cpuMicros),
        of((run) => run.p50),
        of((run) => run.p99),
      ]);
    }
    await node.leave();
    return table(
      `Hub: one scripted node, a step every ${STEP_MS} ms with one token for each stream, SSE of /v1/completions; medians of ${RUNS} runs`,
      ['streams', 'tokens/s', 'µs of CPU a token', 'added ms, p50', 'added ms, p99'],
      rows,
    );
  } finally {
    hub.disconnect();
  }
}

interface Run {
  readonly tokensPerSecond: number;
  readonly cpuMicros: number;
  readonly p50: number;
  readonly p99: number;
}

async function oneRun(hub: ChildProcess, url: string, node: ScriptedNode, streams: number): Promise<Run> {
  const before = node.of('generate').length;
  const sentAt: number[] = [];
  const latencies: number[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: streams });
  const clients = Array.from({ length: streams }, (_, stream) =>
    readStream(url, agent, { stream: (before + stream) % 300, tokens: STEPS }, (offset) => {
      if (offset >= SKIPPED) latencies.push(performance.now() - sentAt[offset]!);
    }),
  );
  await node.next('generate', before + streams - 1);
  const requests = node.of('generate').slice(before);
  const cpuBefore = await cpuMicros(hub);
  const started = performance.now();
  for (let offset = 0; offset < STEPS; offset++) {
    await delay(Math.max(0, started + offset * STEP_MS - performance.now()));
    const frames = requests.map(({ attempt, generate }) => ({
      request: generate.request,
      attempt,
      choice: 0,
      offset,
      tokens: [400 + (offset % 400)],
      ...(offset === 0 ? { cachedTokens: 0 } : {}),
      ...(offset === STEPS - 1 ? { finish: 'length' as const } : {}),
    }));
    sentAt.push(performance.now());
    node.send({ type: 'tokens', epoch: node.welcome?.epoch ?? 0, frames });
  }
  const counts = await Promise.all(clients);
  const seconds = (performance.now() - started) / 1000;
  const tokens = streams * STEPS;
  const cpu = (await cpuMicros(hub)) - cpuBefore;
  agent.destroy();
  if (counts.some((count) => count !== STEPS))
    throw new Error(`A stream gave ${counts.find((count) => count !== STEPS)} tokens where ${STEPS} were sent.`);
  return {
    tokensPerSecond: tokens / seconds,
    cpuMicros: cpu / tokens,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
  };
}

/** User and system time of the hub's process. */
async function cpuMicros(hub: ChildProcess): Promise<number> {
  hub.send('cpu');
  const [{ cpu }] = (await once(hub, 'message')) as [{ cpu: NodeJS.CpuUsage }];
  return cpu.user + cpu.system;
}
