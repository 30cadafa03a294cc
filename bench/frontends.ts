import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { DYNAMO, installDynamo } from '../scripts/dynamo-venv.ts';
import type { HubMessage } from '../src/protocol/messages.ts';
import { type Deployment, DynamoFrontend, fileDeployment, WIRES } from '../test/support/dynamo-frontend.ts';
import { ScriptedNode } from '../test/support/scripted-node.ts';
import { PICO } from '../test/support/test-hub.ts';
import type { Load, LoadResult } from './load-client.ts';
import { median, short, table } from './table.ts';

const STREAMS = [1, 32, 256];
const ROUNDS = 5;
/** Tokens of each stream. */
const TOKENS = 200;
/** A step of the hub's node: about as long as one of Dynamo's mocker. */
const STEP_MS = 25;

/** A server that streams, and what it costs is measured. */
interface Server {
  readonly name: string;
  readonly url: string;
  readonly model: string;
  readonly pid: number;
  close(): Promise<void>;
}

/**
 * CPU time of the process that clients talk to, for each token, with all of its threads: the hub's, and where `dynamo` asks for it that of Dynamo's own
 * frontend under the same load by the same client, in turns. What computes is played in both cases, in another process.
 */
export async function benchFrontends(dynamo: boolean): Promise<string> {
  const client = fork(new URL('load-client.ts', import.meta.url), { execArgv: ['--import', 'tsx'] });
  const servers: Server[] = [];
  try {
    servers.push(await quire());
    if (dynamo) servers.push(await dynamoFrontend());
    const rows: (string | number)[][] = [];
    for (const streams of STREAMS) {
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
          of(({ events, seconds }) => events / seconds),
          of(({ events, user }) => user / events),
          of(({ events, system }) => system / events),
          of(({ events, user, system }) => (user + system) / events),
        ]);
      }
    }
    return table(
      `CPU time a token: ${TOKENS} tokens of each stream, SSE of /v1/completions; medians of ${ROUNDS} rounds in turns`,
      ['streams', 'server', 'tokens/s', 'user µs', 'system µs', 'µs of CPU a token'],
      rows,
    );
  } finally {
    client.disconnect();
    for (const server of servers) await server.close();
  }
}

async function load(client: ChildProcess, what: Load): Promise<LoadResult> {
  const { url, model, pid, streams, tokens } = what;
  client.send({ url, model, pid, streams, tokens } satisfies Load);
  const [result] = (await Promise.race([once(client, 'message'), ended(client)])) as [LoadResult];
  return result;
}

async function ended(client: ChildProcess): Promise<never> {
  await once(client, 'exit');
  throw new Error('The client failed, see above.');
}

async function quire(): Promise<Server> {
  const hub = fork(new URL('hub-process.ts', import.meta.url), { execArgv: ['--import', 'tsx'] });
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
        ...{ request: generate.request, attempt, choice: 0, offset, tokens: [400 + ((offset * 7) % 3000)] },
        ...(offset === 0 ? { cachedTokens: 0 } : {}),
        ...(each.offset === generate.sampling.maxTokens ? { finish: 'length' as const } : {}),
      };
    });
    this.#running = this.#running.filter(({ message, offset }) => offset < message.generate.sampling.maxTokens);
    this.node.send({ type: 'tokens', epoch: this.node.welcome?.epoch ?? 0, frames });
  }
}

/** Dynamo's frontend with its router, and its mocker as the one worker. Throws where Dynamo cannot be installed. */
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

function mocker({ env }: Deployment): ChildProcess {
  const args = ['-m', 'dynamo.mocker', '--model-path', PICO, '--num-workers', '1', '--block-size', '16'];
  return spawn(installDynamo(), args, { env: { PATH: process.env.PATH ?? '', ...WIRES, ...env }, stdio: 'ignore' });
}
