/**
 * The one entry of the page's web worker: puts engine and link together (a node of a cluster), or engine and API (solo).
 * The page's main thread only shows and commands.
 */
import { expose } from 'comlink';
import { pageOptions } from './config/options.ts';
import { fetchFiles } from './engine/files/http-files.ts';
import type { ShaderLibrary } from './engine/gpu/shader-source.ts';
import { adapterRoom } from './node/adapter-room.ts';
import { ClusterNode } from './node/cluster-node.ts';
import type { LeaveTimes } from './node/departure.ts';
import type { StartEngine } from './node/engine-offer.ts';
import { startGrammarWorker } from './node/grammar/start-worker.ts';
import { endingFiles, openModelFiles } from './node/model-files.ts';
import { Progress } from './node/progress.ts';
import { IDLE, type NodeSnapshot } from './node/snapshot.ts';
import { SnapshotFeed } from './node/snapshot-feed.ts';
import { webSocketConnect } from './node/socket.ts';
import { SoloNode } from './node/solo-node.ts';
import { startEngine } from './node/start-engine.ts';
import { bulkConnect } from './node/transfer/bulk-link.ts';
import { transfersIn } from './node/transfer/open-transfers.ts';
import type { ApiRequest, ApiResponseSink, JoinOptions, WorkerApi } from './node/worker-api.ts';
import { systemClock } from './protocol/clock.ts';

const SHADERS = import.meta.glob<string>('../shaders/**/*.wgsl', { query: '?raw', import: 'default', eager: true });

const shaders: ShaderLibrary = (path) => {
  const text = SHADERS[`../shaders/${path}`];
  if (text === undefined) throw new Error(`There is no shader ${path} in this build.`);
  return text;
};

const now = () => performance.now();
const listeners = new Set<(snapshot: NodeSnapshot) => void>();
const feed = new SnapshotFeed(systemClock, (snapshot) => {
  for (const listener of listeners) listener(snapshot);
});

let node: ClusterNode | SoloNode | null = null;
/** The end of the life before, which a new one waits for. */
let left: Promise<void> = Promise.resolve();
let lastRequest = 0;
const requests = new Map<number, AbortController>();

const api: WorkerApi = {
  subscribe(listener) {
    listeners.add(listener);
    listener(feed.current);
  },
  async join(options, page) {
    // A hub of several models wants to know it; an adapter that fails is told of when the engine opens it.
    const room = await adapterRoom(navigator.gpu).catch(() => null);
    await left;
    if (!begin()) return;
    const joining = new ClusterNode({
      connect: webSocketConnect(options.hubUrl),
      clock: systemClock,
      random: Math.random,
      ticket: options.ticket,
      agent: options.agent,
      room,
      query: options.query,
      feed,
      startEngine: clusterStart(options),
      openTransfers: transfersIn({
        query: options.query,
        clock: systemClock,
        random: Math.random,
        bulk: bulkConnect(options.hubUrl),
        // The page's functions answer across threads, whatever their type says here.
        openBroker: async () => page.openBroker(),
        openPeers: async () => page.openPeers(),
      }),
      // They are small, and change: not kept between visits.
      openLora: (offer, signal) => endingFiles(fetchFiles(offer, options.hubUrl), signal),
      leaveTimes: (offered) => leaveTimes(options.query, offered),
    });
    node = joining;
    joining.join();
  },
  async solo({ source, query }) {
    await left;
    if (!begin()) return;
    const solo = new SoloNode({
      source,
      query,
      feed,
      now,
      openFiles: (offer, baseUrl, signal, onNotice) =>
        openModelFiles({ offer, baseUrl, storage: navigator, signal, onNotice }),
      startEngine: (request, listener) => startEngine(place(), { ...request, query }, listener),
    });
    node = solo;
    void solo.start();
  },
  leave(how) {
    const leaving = node?.leave(how) ?? Promise.resolve();
    // Whoever asked hears of a failure; a new life begins all the same.
    left = leaving.catch(() => {});
    return leaving;
  },
  steps: () => node?.steps() ?? [],
  request(request, sink) {
    const number = ++lastRequest;
    const abort = new AbortController();
    requests.set(number, abort);
    void answer(request, sink, abort.signal).finally(() => requests.delete(number));
    return number;
  },
  abort(number) {
    requests.get(number)?.abort();
  },
};
expose(api);

/** Whether a new life may begin: none is going on. */
function begin(): boolean {
  const { stage } = feed.current;
  if (node && stage !== 'idle' && stage !== 'refused' && stage !== 'gone') return false;
  feed.update(IDLE);
  return true;
}

function place(): Parameters<typeof startEngine>[0] {
  return { gpu: navigator.gpu, shaders, now, clock: systemClock, startGrammarThread: startGrammarWorker };
}

function clusterStart({ hubUrl, query }: JoinOptions): StartEngine {
  return async (offer, listener, signal) => {
    const progress = new Progress((...step) => listener.progress(...step), offer.model.files, now);
    const onNotice = (notice: string) => progress.say(notice);
    const files = await openModelFiles({ offer: offer.model, baseUrl: hubUrl, storage: navigator, signal, onNotice });
    return startEngine(place(), { offer, files, progress, query }, listener);
  };
}

function leaveTimes(query: string, offered: Record<string, string>): LeaveTimes {
  const options = pageOptions(new URLSearchParams(query), offered);
  return {
    graceMs: options['graceful-shutdown-grace-period-secs'] * 1000,
    timeoutMs: options['runtime-graceful-shutdown-timeout-secs'] * 1000,
  };
}

/** Sends the API's answer to the page, chunk by chunk. */
async function answer(request: ApiRequest, sink: ApiResponseSink, signal: AbortSignal): Promise<void> {
  try {
    const { method, path, headers, body } = request;
    const url = new URL(path, 'http://solo.invalid');
    const init = { method, headers: headers.map(([k, v]): [string, string] => [k, v]), body, signal };
    if (!(node instanceof SoloNode)) throw new Error('This page has no engine of its own. Join first.');
    const response = await node.fetch(new Request(url, init));
    sink.head({ status: response.status, headers: [...response.headers] });
    const reader = response.body?.getReader();
    signal.addEventListener('abort', () => void reader?.cancel().catch(() => {}));
    for (;;) {
      const part = await reader?.read();
      if (!part || part.done) break;
      sink.chunk(part.value);
    }
    sink.end(null);
  } catch (error) {
    sink.end(error instanceof Error ? error.message : String(error));
  }
}
