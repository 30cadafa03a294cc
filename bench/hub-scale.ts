import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { Crowd } from './crowd.ts';
import type { HubUsage } from './hub-process.ts';
import { quantile, short, table } from './table.ts';
import { readStream } from './token-stream.ts';

const NODES = 5000;
const STREAMS = 1000;
/** Tokens a second of each stream: as a page on a phone gives them, on a laptop, and more than the hub can carry. */
const RATES = [5, 10, 20, 40];
/** Tokens of each stream. */
const STEPS = 100;
/** Streams send in turn, so often. */
const SLICE_MS = 10;
/** The first tokens set up what the later ones use. */
const SKIPPED = 10;

/** A hub with thousands of nodes and streams: what it costs, what it adds, and how much it carries. */
export async function benchHubScale(): Promise<string> {
  const hub = fork(new URL('hub-process.ts', import.meta.url), { execArgv: ['--import', 'tsx'] });
  try {
    const [{ url }] = (await once(hub, 'message')) as [{ url: string }];
    const before = await usage(hub, 'memory');
    const crowd = new Crowd();
    const began = performance.now();
    await crowd.join(url, NODES);
    const seconds = (performance.now() - began) / 1000;
    const after = await usage(hub, 'memory');
    const idle = await idleCpu(hub);
    const rows: (string | number)[][] = [];
    for (const rate of RATES) rows.push(await oneRate(hub, url, crowd, rate));
    const kib = (read: (usage: HubUsage) => number) => short((read(after) - read(before)) / NODES / 1024);
    const closed = crowd.closed;
    crowd.leave();
    return [
      table(
        `Hub: ${NODES.toLocaleString('en')} nodes on sockets of their own`,
        ['joined a second', 'KiB of heap a node', 'KiB of memory a node', 'of a core while idle', 'closed by the hub'],
        [[short(NODES / seconds), kib((u) => u.heapBytes), kib((u) => u.rssBytes), `${short(idle * 100)} %`, closed]],
      ),
      table(
        `Hub: ${STREAMS.toLocaleString('en')} SSE streams of /v1/completions over ${NODES.toLocaleString('en')} nodes`,
        [
          'tokens/s sent',
          'tokens/s that came',
          'µs of CPU a token',
          'added ms, p50',
          'added ms, p99',
          'ms to start a stream, p50',
          'p99',
        ],
        rows,
      ),
    ].join('\n');
  } finally {
    hub.disconnect();
  }
}

async function oneRate(hub: ChildProcess, url: string, crowd: Crowd, rate: number): Promise<(string | number)[]> {
  const sentAt = Array.from({ length: STREAMS }, () => new Float64Array(STEPS));
  const latencies: number[] = [];
  const starts: number[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: STREAMS });
  const clients = Array.from({ length: STREAMS }, async (_, stream) => {
    // Ten new ones a slice: a crowd arrives, but not in one moment.
    await delay(Math.floor(stream / 10) * SLICE_MS);
    const askedAt = performance.now();
    void crowd.arrival(stream).then((at) => starts.push(at - askedAt));
    return readStream(url, agent, { stream, tokens: STEPS }, (offset) => {
      if (offset >= SKIPPED) latencies.push(performance.now() - sentAt[stream]![offset]!);
    });
  });
  await crowd.running(STREAMS);
  const cpuBefore = (await usage(hub, 'cpu')).cpu;
  const began = performance.now();
  await crowd.speak(STEPS, { periodMs: 1000 / rate, sliceMs: SLICE_MS }, (stream, offset) => {
    sentAt[stream]![offset] = performance.now();
  });
  const counts = await Promise.all(clients);
  const seconds = (performance.now() - began) / 1000;
  const cpu = (await usage(hub, 'cpu')).cpu;
  agent.destroy();
  if (counts.some((count) => count !== STEPS)) throw new Error('A stream did not give all of its tokens.');
  const tokens = STREAMS * STEPS;
  return [
    STREAMS * rate,
    short(tokens / seconds),
    short((cpu.user + cpu.system - cpuBefore.user - cpuBefore.system) / tokens),
    short(quantile(latencies, 0.5)),
    short(quantile(latencies, 0.99)),
    short(quantile(starts, 0.5)),
    short(quantile(starts, 0.99)),
  ];
}

/** Part of a core that the hub takes for pings and clocks alone. */
async function idleCpu(hub: ChildProcess): Promise<number> {
  const ms = 10_000;
  const before = (await usage(hub, 'cpu')).cpu;
  await delay(ms);
  const after = (await usage(hub, 'cpu')).cpu;
  return (after.user + after.system - before.user - before.system) / 1000 / ms;
}

async function usage(hub: ChildProcess, what: 'cpu' | 'memory'): Promise<HubUsage> {
  hub.send(what);
  const [answer] = (await once(hub, 'message')) as [HubUsage];
  return answer;
}
