import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { hubAlone, STEP_MS, throughBridge, throughMocker, type Way } from './dynamo-ways.ts';
import type { Load, LoadResult } from './load-client.ts';
import { median, short, table } from './table.ts';

const ROUNDS = 3;

/**
 * The same load through Dynamo's frontend with its own mocker, through that frontend with a hub's bridge, and through the hub alone, in turns: how much
 * comes, how soon, and what each process takes for it. What computes is played in all cases. Throws where no Dynamo can be had.
 */
export async function benchDynamo(counts: readonly number[]): Promise<string> {
  const client = fork(new URL('load-client.ts', import.meta.url), { execArgv: ['--import', 'tsx'] });
  const ways: Way[] = [];
  try {
    for (const start of [throughMocker, throughBridge, hubAlone]) ways.push(await start());
    const rates: (string | number)[][] = [];
    const costs: (string | number)[][] = [];
    let run = 0;
    for (const streams of counts) {
      const results = new Map<Way, LoadResult[]>(ways.map((way) => [way, []]));
      // The first round is for what is compiled, cached and allocated once.
      for (let round = 0; round <= ROUNDS; round++, run++) {
        for (const [way, all] of results) {
          const pids = [...Object.values(way.pids), client.pid!];
          const result = await load(client, { url: way.url, model: way.model, streams, run, pids });
          if (round > 0) all.push(result);
        }
      }
      for (const [way, all] of results) {
        rates.push([streams, way.name, ...rateCells(all)]);
        const processes = [...Object.keys(way.pids), 'client'];
        costs.push(...processes.map((name, at) => [streams, way.name, name, ...costCells(all, at)]));
      }
    }
    const what = `prompts of 64 tokens, answers of 50 to 150, a step every ${STEP_MS} ms, SSE of /v1/completions; medians of ${ROUNDS} rounds in turns`;
    return [
      table(
        `Through Dynamo and without: ${what}`,
        [
          'streams',
          'through',
          'requests/s',
          'tokens/s',
          ...['TTFT ms', 'ITL ms'].flatMap((name) => [`${name}, p50`, 'p99']),
        ],
        rates,
      ),
      table(
        'CPU time of each process in the same runs',
        ['streams', 'through', 'process', 'user s', 'system s', 's of CPU a million tokens', 'of a core'],
        costs,
      ),
    ].join('\n');
  } finally {
    if (client.connected) client.disconnect();
    for (const way of ways) await way.close();
  }
}

function rateCells(all: readonly LoadResult[]): string[] {
  const of = (read: (result: LoadResult) => number) => short(median(all.map(read)));
  return [
    of(({ requests, seconds }) => requests / seconds),
    of(({ tokens, seconds }) => tokens / seconds),
    ...[of(({ first }) => first.p50), of(({ first }) => first.p99)],
    ...[of(({ gap }) => gap.p50), of(({ gap }) => gap.p99)],
  ];
}

/** Of the process at a place in the list. Microseconds a token are seconds a million. */
function costCells(all: readonly LoadResult[], at: number): string[] {
  const of = (read: (cpu: LoadResult['cpu'][number], result: LoadResult) => number) =>
    median(all.map((result) => read(result.cpu[at]!, result)));
  return [
    short(of(({ user }, { tokens }) => user / tokens)),
    short(of(({ system }, { tokens }) => system / tokens)),
    short(of(({ user, system }, { tokens }) => (user + system) / tokens)),
    `${Math.round(of(({ user, system }, { seconds }) => (user + system) / 1e4 / seconds))} %`,
  ];
}

async function load(client: ChildProcess, what: Load): Promise<LoadResult> {
  client.send(what);
  const over = new AbortController();
  const failed = async () => {
    await once(client, 'exit', over);
    throw new Error('The client failed, see above.');
  };
  try {
    const [result] = (await Promise.race([once(client, 'message', over), failed()])) as [LoadResult];
    return result;
  } finally {
    over.abort();
  }
}
