import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { DYNAMO, installDynamo } from '../scripts/dynamo-venv.ts';
import type { HubMessage } from '../src/protocol/messages.ts';
import { type Deployment, DynamoFrontend, fileDeployment, WIRES } from '../test/support/dynamo-frontend.ts';
import { ScriptedNode } from '../test/support/scripted-node.ts';
import { PICO } from '../test/support/test-hub.ts';
import type { Load, LoadResult } from './load-client.ts';
import { median, short, table } from './table.ts';

const ROUNDS = 3;
/** Tokens of each stream. */
const TOKENS = 500;
/** A step of the hub's node: about as long as one of Dynamo's mocker. */
const STEP_MS = 25;

/** A server that streams: what it costs is measured. */
interface Server {
  readonly name: string;
  readonly url: string;
  readonly model: string;
  readonly pid: number;
  close(): Promise<void>;
}

/**
 * CPU time of one process for each token, with all of its threads, by the same client, in turns: of the hub, and of Dynamo's own frontend, before its
 * mocker and before a hub's bridge; of that hub too. What computes is played in all cases, in another process. Says why where no Dynamo can be had.
 */
export async function benchFrontends(counts: readonly number[] = [1, 32, 256]): Promise<string> {
  try {
    installDynamo();
  } catch (error) {
    return (error as Error).message;
  }
  const client = fork(new URL('load-client.ts', import.meta.url), { execArgv: ['--import', 'tsx'] });
  const servers: Server[] = [];
  try {
    servers.push(await quire());
    servers.push(await dynamoFrontend());
    servers.push(...(await bridged()));
    const rows: (string | number)[][] = [];
    for (const streams of counts) {
      const results = new Map<Server, LoadResult[]>(servers.map((server) => [server, []]));
      // The first round is for what is compiled, cached and allocated once.
      for (let round = 0; round <= ROUNDS; round++) {
        for (const [server, all] of results) {
          const result = await load(client, { ...server, streams, tokens: TOKENS });
          if (round > 0) all.push(result);
        }
      }
      for (const [{ name }, all] of results) {
        const of = (read: (result: LoadResult) => number) => short(median(all.map(read)));
        rows.push([
          streams,
          name,
          of(({ tokens, seconds }) => tokens / seconds),
          of(({ eventsPerToken }) => eventsPerToken),
          of(({ tokens, user }) => user / tokens),
          of(({ tokens, system }) => system / tokens),
          of(({ tokens, user, system }) => (user + system) / tokens),
        ]);
      }
    }
    return table(
      `CPU time a token: ${TOKENS} tokens of each stream, SSE of /v1/completions; medians of ${ROUNDS} rounds in turns`,
      ['streams', 'server', 'tokens/s', 'events a token', 'user µs', 'system µs', 'µs of CPU a token'],
      rows,
    );
  } finally {
    if (client.connected) client.disconnect();
    for (const server of servers) await server.close();
  }
}

async function load(client: ChildProcess, what: Load): Promise<LoadResult> {
  const { url, model, pid, streams, tokens } = what;
  client.send({ url, model, pid, streams, tokens } satisfies Load);
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

/** A hub with one node. deployment: that it is a part of; null = none. */
async function quire(deployment: Deployment | null = null): Promise<Server> {
  const discovery = deployment === null ? [] : [JSON.stringify(deployment.discovery)];
  const hub = fork(new URL('hub-process.ts', import.meta.url), discovery, { execArgv: ['--import', 'tsx'] });
  const [{ url }] = (await once(hub, 'message')) as [{ url: string }];
  const node = await ScriptedNode.join(url, { reply: null, card: { maxNumSeqs: 256, totalBlocks: 8192 } });
  const player = new Player(node);
  const timer = setInterval(() => player.step(), STEP_MS);
  return {
    ...{ name: 'Quire', url, model: 'quire-pico', pid: hub.pid! },
    async close() {
      clearInterval(timer);
      await node.leave();
      hub.disconnect();
    },
  };
}

/** Plays an engine: each step gives the next token of every request, in one message as a node sends it. */
class Player {
  #running: { readonly message: Extract<HubMessage, { type: 'generate' }>; offset: number }[] = [];

  constructor(private readonly node: ScriptedNode) {}

  step(): void {
    for (const message of this.node.received.splice(0))
      if (message.type === 'generate') this.#running.push({ message, offset: 0 });
    if (this.#running.length === 0) return;
    const frames = this.#running.map((each) => {
      const { attempt, generate } = each.message;
      const offset = each.offset++;
      return {
        ...{ request: generate.request, attempt, choice: 0, offset, tokens: [400 + (offset % 400)] },
        ...(offset === 0 ? { cachedTokens: 0 } : {}),
        ...(each.offset === generate.sampling.maxTokens ? { finish: 'length' as const } : {}),
      };
    });
    this.#running = this.#running.filter(({ message, offset }) => offset < message.generate.sampling.maxTokens);
    this.node.send({ type: 'tokens', epoch: this.node.welcome?.epoch ?? 0, frames });
  }
}

/** Dynamo's frontend with its router, and its mocker as the one worker. */
async function dynamoFrontend(): Promise<Server> {
  const deployment = await fileDeployment();
  const frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
  const worker = mocker(deployment);
  const close = async () => {
    worker.kill('SIGKILL');
    await frontend.close();
    await deployment.close();
  };
  try {
    await frontend.serves(PICO);
  } catch (error) {
    await close();
    throw error;
  }
  return { name: `Dynamo ${DYNAMO}`, url: frontend.url, model: PICO, pid: frontend.pid, close };
}

/** Dynamo's frontend with its router, and a hub as its workers: the same answers, first as what the frontend costs, then as what the hub costs. */
async function bridged(): Promise<Server[]> {
  const deployment = await fileDeployment();
  const hub = await quire(deployment);
  const frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
  const { model } = hub;
  const close = async () => {
    await frontend.close();
    await hub.close();
    await deployment.close();
  };
  try {
    await frontend.serves(model);
  } catch (error) {
    await close();
    throw error;
  }
  const { url } = frontend;
  return [
    { name: `Dynamo ${DYNAMO} before Quire`, url, model, pid: frontend.pid, close },
    { name: `Quire behind Dynamo ${DYNAMO}`, url, model, pid: hub.pid, close: async () => {} },
  ];
}

function mocker({ env }: Deployment): ChildProcess {
  const args = ['-m', 'dynamo.mocker', '--model-path', PICO, '--num-workers', '1', '--block-size', '16'];
  return spawn(installDynamo(), args, { env: { PATH: process.env.PATH ?? '', ...WIRES, ...env }, stdio: 'ignore' });
}
