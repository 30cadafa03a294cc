import type { Logger } from 'pino';
import type { Publisher, Router } from 'zeromq';
import type { KvChange, KvFollower } from '../../protocol/kv-follower.ts';
import { SendQueue } from '../../protocol/send-queue.ts';
import { HubStartError } from '../start-error.ts';
import { type Batch, BatchLog } from './batch-log.ts';
import { encodeBatch } from './vllm-batch.ts';

type ZeroMq = typeof import('zeromq');

/** vLLM's `KVEventsConfig`, as far as its ZMQ publisher reads it. */
export interface ZmqConfig {
  /** Where subscribers come: bound if it has a `*` or `::` or is `ipc:` or `inproc:`, else connected to, as in vLLM. */
  readonly endpoint: string;
  /** Where subscribers ask for what they missed; null = nowhere. */
  readonly replayEndpoint: string | null;
  /** Batches kept for replay, of all topics together. */
  readonly bufferSteps: number;
  /** Batches that wait for one slow subscriber; what comes then is not for it. */
  readonly hwm: number;
  /** Batches that wait to be sent. */
  readonly maxQueueSize: number;
  /** First part of each topic. */
  readonly topic: string;
}

export interface ZmqDeps {
  readonly config: ZmqConfig;
  /** Served name of the model with a fingerprint. */
  readonly modelName: (fingerprint: string) => string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly log: Logger;
  /** Gives the optional package; rejects where it is not installed. */
  readonly load?: () => Promise<ZeroMq>;
}

/** Whatever the configuration allows: batches kept for replay, and those that wait to be sent. */
const MAX_KEPT_BYTES = 256 << 20;
const MAX_QUEUED_BYTES = 64 << 20;
/** How long the last batches may take to leave when the hub ends, milliseconds. */
const LINGER_MS = 1000;
/** -1 as i64: the end of a replay. */
const END = Buffer.alloc(8, 0xff);

/** Publishes the prefix caches of all nodes as vLLM does, one topic and one sequence for each (node, rank). */
export interface KvPublisher extends KvFollower {
  /** Where it listens, with the port that was chosen. */
  readonly endpoint: string;
  readonly replayEndpoint: string | null;
  close(): Promise<void>;
}

/**
 * Opens the sockets. Throws `HubStartError` where the package `zeromq` is not installed, or an endpoint cannot be had.
 * Frames of a batch: topic `kv@<node>:<rank>@<model>`, number as u64 big-endian, payload (`encodeBatch`).
 */
export async function startZmqPublisher({
  config,
  modelName,
  now,
  log,
  load = importZeroMq,
}: ZmqDeps): Promise<KvPublisher> {
  const zmq = await load().catch(() => {
    throw new HubStartError(
      '--kv-events-config: publisher zmq needs the optional package zeromq, which is not installed. Run npm install zeromq, or leave the publisher out.',
    );
  });
  const publisher = new zmq.Publisher({ sendHighWaterMark: config.hwm, linger: LINGER_MS });
  const replay =
    config.replayEndpoint === null ? null : new zmq.Router({ linger: 0, sendHighWaterMark: config.bufferSteps + 1 });
  const close = () => {
    publisher.close();
    replay?.close();
  };
  try {
    await open(publisher, config.endpoint);
    if (replay !== null && config.replayEndpoint !== null) await replay.bind(config.replayEndpoint);
  } catch (error) {
    close();
    const why = error instanceof Error ? error.message : String(error);
    throw new HubStartError(`--kv-events-config: the endpoints cannot be opened: ${why}. Name others.`);
  }
  const batches = new BatchLog(config.bufferSteps, MAX_KEPT_BYTES);
  const queue = sendQueue(publisher, config.maxQueueSize, log);
  const served = replay === null ? null : serveReplay(replay, batches, log);
  return {
    endpoint: publisher.lastEndpoint ?? config.endpoint,
    replayEndpoint: replay?.lastEndpoint ?? null,
    changed(node: string, rank: number, fingerprint: string, changes: readonly KvChange[]) {
      const topic = `${config.topic}@${node}:${rank}@${modelName(fingerprint)}`;
      queue.add(batches.add(topic, encodeBatch(now() / 1000, changes, rank)));
    },
    async close() {
      await queue.drained();
      close();
      await served;
    },
  };
}

function importZeroMq(): Promise<ZeroMq> {
  return import('zeromq');
}

async function open(publisher: Publisher, endpoint: string): Promise<void> {
  if (/\*|::|^(ipc|inproc):/.test(endpoint)) await publisher.bind(endpoint);
  else publisher.connect(endpoint);
}

function numbered(seq: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(seq));
  return bytes;
}

/** A socket takes one message at a time. The number of a batch that is left out shows the hole, and replay fills it. */
function sendQueue(publisher: Publisher, maxItems: number, log: Logger): SendQueue<Batch> {
  return new SendQueue<Batch>({
    send: ({ topic, seq, payload }) => publisher.send([topic, numbered(seq), payload]),
    bytes: ({ payload }) => payload.length,
    maxItems,
    maxBytes: MAX_QUEUED_BYTES,
    leftOut(first) {
      if (first) log.warn('KV events come faster than they can be published; batches are left out');
    },
    failed: (error) => log.error({ err: error }, 'KV events cannot be published'),
  });
}

/**
 * vLLM's replay: a request is (empty, number of the first batch as u64 big-endian), the answers are (empty, number, payload), and at the
 * end (empty, -1, empty). A third frame of the request names the topic; without it the hub must have one topic only.
 */
async function serveReplay(router: Router, batches: BatchLog, log: Logger): Promise<void> {
  try {
    for await (const [client, delimiter, start, topic, ...rest] of router) {
      if (client === undefined || delimiter?.length !== 0 || start?.length !== 8 || rest.length > 0) {
        log.warn('a request for the replay of KV events is not (empty, u64[, topic])');
        continue;
      }
      const { topics } = batches;
      const only = topics.length === 1 ? topics[0] : undefined;
      const wanted = topic?.toString() ?? only;
      const found = wanted === undefined ? [] : batches.since(wanted, start.readBigUInt64BE());
      for (const { seq, payload } of found) await router.send([client, '', numbered(seq), payload]);
      await router.send([client, '', END, '']);
    }
  } catch (error) {
    if (!router.closed) log.error({ err: error }, 'the replay of KV events ends');
  }
}
