import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { installDynamo } from '../../scripts/dynamo-venv.ts';
import type { BridgeOptions } from '../../src/config/dynamo.ts';
import { endWithUs } from './end-with-us.ts';

/** How a deployment is found: what its processes have in their environment. */
export interface Deployment {
  readonly env: Readonly<Record<string, string>>;
  /** The same for a hub. */
  readonly discovery: BridgeOptions['discovery'];
  close(): Promise<void>;
}

const START_MS = 90_000;
/** Characters of a frontend's output that are kept at least. */
const MAX_OUTPUT = 1 << 20;

/** By which wires the processes of a deployment talk, in their environment: those of one machine. */
export const WIRES = {
  DYN_REQUEST_PLANE: 'tcp',
  DYN_EVENT_PLANE: 'zmq',
  DYN_TCP_RPC_HOST: '127.0.0.1',
  DYN_TCP_RESPONSE_STREAM_HOST: 'lo',
  HF_HUB_OFFLINE: '1',
};

/** A deployment in a folder of its own, on this machine alone. */
export async function fileDeployment(): Promise<Deployment> {
  const root = await mkdtemp(path.join(tmpdir(), 'quire-dynamo-'));
  const folder = path.join(root, 'kv');
  return {
    discovery: { backend: 'file', folder },
    env: {
      DYN_DISCOVERY_BACKEND: 'file',
      DYN_FILE_KV: folder,
      // Model files are cached there, by content.
      HOME: root,
    },
    close: () => rm(root, { recursive: true, force: true }),
  };
}

/** etcd's own server, where it is installed; null = it is not. */
export const ETCD =
  (process.env.PATH ?? '')
    .split(path.delimiter)
    .map((folder) => path.join(folder, 'etcd'))
    .find((file) => existsSync(file)) ?? null;

/** A deployment in an etcd of its own. Its records are those that `keys` gives; `restart` leaves none of them. */
export async function etcdDeployment(): Promise<Deployment & { keys(): Promise<string[]>; restart(): Promise<void> }> {
  if (ETCD === null) throw new Error('etcd is not installed.');
  const root = await mkdtemp(path.join(tmpdir(), 'quire-etcd-'));
  const [client, peer] = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`];
  let data = 0;
  let server: ChildProcess;
  const range = (): Promise<Response> => {
    // All keys from the first on.
    const body = JSON.stringify({ key: 'AA==', range_end: 'AA==', keys_only: true });
    return fetch(`${client}/v3/kv/range`, { method: 'POST', body });
  };
  const start = async () => {
    const flags = {
      'data-dir': path.join(root, String(data++)),
      'listen-client-urls': client,
      'listen-peer-urls': peer,
    };
    const more = {
      'advertise-client-urls': client,
      'initial-advertise-peer-urls': peer,
      'initial-cluster': `default=${peer}`,
    };
    const args = Object.entries({ ...flags, ...more }).flatMap(([name, value]) => [`--${name}`, value]);
    server = spawn(ETCD!, args, { stdio: 'ignore' });
    for (;;) {
      const there = await range().catch(() => null);
      if (there?.ok) return;
      if (server.exitCode !== null) throw new Error(`etcd ended with ${server.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const stop = async () => {
    server.kill('SIGKILL');
    await once(server, 'exit');
  };
  await start();
  return {
    discovery: { backend: 'etcd', endpoints: [client] },
    env: { DYN_DISCOVERY_BACKEND: 'etcd', ETCD_ENDPOINTS: client, HOME: root },
    async keys() {
      const { kvs = [] } = (await (await range()).json()) as { kvs?: { key: string }[] };
      return kvs.map(({ key }) => Buffer.from(key, 'base64').toString());
    },
    async restart() {
      await stop();
      await start();
    },
    async close() {
      await stop();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Dynamo's own frontend, as installed by `scripts/dynamo-venv.ts`. */
export class DynamoFrontend {
  #output = '';
  readonly #exited: Promise<unknown>;

  private constructor(
    readonly port: number,
    private readonly child: ChildProcess,
  ) {
    this.#exited = once(child, 'exit');
    endWithUs(child);
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
        // Seldom: it copies all of it.
        if (this.#output.length > 2 * MAX_OUTPUT) this.#output = this.#output.slice(-MAX_OUTPUT);
      });
  }

  /** flags: as of `python -m dynamo.frontend`. */
  static async start({ env }: Deployment, ...flags: readonly string[]): Promise<DynamoFrontend> {
    const port = await freePort();
    const args = ['-m', 'dynamo.frontend', '--http-port', String(port), ...flags];
    const child = spawn(installDynamo(), args, {
      env: { PATH: process.env.PATH ?? '', ...WIRES, ...env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const frontend = new DynamoFrontend(port, child);
    try {
      await frontend.until('it answers', async () => (await fetch(`${frontend.url}/live`)).ok, START_MS);
    } catch (error) {
      await frontend.close();
      throw error;
    }
    return frontend;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** The end of what it wrote. */
  get output(): string {
    return this.#output;
  }

  /** Names of the models that it serves. */
  async models(): Promise<string[]> {
    const { data } = (await (await fetch(`${this.url}/v1/models`)).json()) as { data: { id: string }[] };
    return data.map(({ id }) => id);
  }

  /** Workers that it knows. */
  async workers(): Promise<number> {
    const { instances = [] } = (await (await fetch(`${this.url}/health`)).json()) as {
      instances?: { endpoint: string }[];
    };
    return instances.filter(({ endpoint }) => endpoint === 'generate').length;
  }

  /** Waits until it serves a model, and knows so many workers. A model is listed before it is served. */
  async serves(model: string, workers = 1): Promise<void> {
    const ready = async () => {
      // The mocker's name is a path, which cannot be asked for.
      if (model.startsWith('/')) return true;
      const said = (await (await fetch(`${this.url}/v1/models/${model}/ready`)).json()) as { ready?: boolean };
      return said.ready === true;
    };
    await this.until(
      `${model} is served by ${workers}`,
      async () => (await this.workers()) === workers && (await this.models()).includes(model) && (await ready()),
    );
  }

  /** Throws with the end of what it wrote when the condition does not hold in time. */
  async until(what: string, condition: () => Promise<boolean>, ms = 30_000): Promise<void> {
    const end = Date.now() + ms;
    while (!(await condition().catch(() => false))) {
      if (Date.now() > end || this.child.exitCode !== null)
        throw new Error(`Dynamo's frontend: not so in ${ms} ms: ${what}\n${this.#output.slice(-4000)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async close(): Promise<void> {
    const { pid, exitCode, signalCode } = this.child;
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL');
    await this.#exited;
  }
}
