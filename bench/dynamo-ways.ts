import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { DYNAMO, installDynamo } from '../scripts/dynamo-venv.ts';
import { type Deployment, DynamoFrontend, fileDeployment, WIRES } from '../test/support/dynamo-frontend.ts';
import { endWithUs } from '../test/support/end-with-us.ts';
import { PICO } from '../test/support/test-hub.ts';
import { BLOCK_SIZE, BLOCKS, MAX_SEQUENCES, ScriptedPlayer } from './scripted-player.ts';

/** How long a step of the engines takes that are played. */
export const STEP_MS = 25;

/** A way from a client to an engine and back. */
export interface Way {
  readonly name: string;
  readonly url: string;
  readonly model: string;
  /** Processes on it, by what they are. */
  readonly pids: Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/** Through the hub alone. Its node is played by this process. */
export function hubAlone(): Promise<Way> {
  return startHub(null);
}

/** Through Dynamo's frontend with its router, and its mocker as the one worker. */
export async function throughMocker(): Promise<Way> {
  const deployment = await fileDeployment();
  return behindFrontend(`Dynamo ${DYNAMO}, mocker`, deployment, async () => {
    const worker = startMocker(deployment);
    const exited = once(worker, 'exit');
    const close = async () => {
      worker.kill('SIGKILL');
      await exited;
    };
    return { model: PICO, pids: { mocker: worker.pid! }, close };
  });
}

/** Through the same frontend, and a hub's bridge with one node as the one worker. */
export async function throughBridge(): Promise<Way> {
  const deployment = await fileDeployment();
  return behindFrontend(`Dynamo ${DYNAMO}, bridge`, deployment, () => startHub(deployment));
}

async function behindFrontend(
  name: string,
  deployment: Deployment,
  startWorker: () => Promise<Pick<Way, 'model' | 'pids' | 'close'>>,
): Promise<Way> {
  const closers = [() => deployment.close()];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const worker = await startWorker();
    closers.push(() => worker.close());
    const frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
    closers.push(() => frontend.close());
    const { model, pids } = worker;
    await frontend.serves(model);
    return { name, url: frontend.url, model, pids: { frontend: frontend.pid, ...pids }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** deployment: that it is a part of; null = none. */
async function startHub(deployment: Deployment | null): Promise<Way> {
  const discovery = deployment === null ? [] : [JSON.stringify(deployment.discovery)];
  const hub = fork(new URL('hub-process.ts', import.meta.url), discovery, { execArgv: ['--import', 'tsx'] });
  endWithUs(hub);
  const [{ url }] = (await once(hub, 'message')) as [{ url: string }];
  const player = await ScriptedPlayer.join(url, STEP_MS);
  return {
    ...{ name: 'the hub alone', url, model: 'quire-pico', pids: { hub: hub.pid!, node: process.pid } },
    async close() {
      await player.leave();
      hub.disconnect();
    },
  };
}

/** Milliseconds of a step of the mocker that has next to none of its blocks in use, by its own formula. */
const MOCKER_STEP_MS = 5.74;
/** Makes prompts take next to nothing, as they do on a node that is played. */
const PROMPT_SPEEDUP = 1000;

function startMocker({ env }: Deployment): ChildProcess {
  const options = {
    'model-path': PICO,
    'block-size': BLOCK_SIZE,
    'num-gpu-blocks-override': BLOCKS,
    'max-num-seqs': MAX_SEQUENCES,
    'speedup-ratio': PROMPT_SPEEDUP,
    'decode-speedup-ratio': MOCKER_STEP_MS / STEP_MS / PROMPT_SPEEDUP,
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const worker = spawn(installDynamo(), ['-m', 'dynamo.mocker', ...args], {
    env: { PATH: process.env.PATH ?? '', ...WIRES, ...env },
    stdio: 'ignore',
  });
  endWithUs(worker);
  return worker;
}
