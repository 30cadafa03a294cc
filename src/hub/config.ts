import type { EndpointType } from '../config/endpoint-types.ts';
import type { PoolerWish } from '../config/pooler-config.ts';
import type { AskedParsers } from '../frontend/parsers/model-parsers.ts';
import type { TransportName } from '../protocol/transfer.ts';
import type { BridgeConfig } from './dynamo-bridge.ts';
import type { CanaryPayload } from './health/payload.ts';
import type { ZmqConfig } from './kv-publisher/zmq-publisher.ts';
import type { LoraConfig } from './lora/lora-desk.ts';
import type { RouterConfig } from './router/router.ts';

/** One model that the hub serves. */
export interface ModelConfig {
  /** Folder in Hugging Face layout: `config.json`, `*.safetensors`, tokenizer files. Or a GGUF file, or a folder with one. */
  readonly folder: string;
  /** Name in the API and in `/models/<name>/`; null = the folder's name. */
  readonly servedName: string | null;
  /** SHA-256 of each of its files, where they were known before; a folder with other bytes is refused. */
  readonly hashes?: ReadonlyMap<string, string>;
}

/** When idle nodes are probed. */
export interface HealthCheckConfig {
  /** A node is probed when it was idle for so long, and so long after the last probe. */
  readonly waitMs: number;
  /** A probe without an end fails after so long. */
  readonly timeoutMs: number;
}

/** What keeps a hub bounded. Times are milliseconds. */
export interface HubLimits {
  /** Open node sockets, whatever their state. */
  readonly maxNodes: number;
  /** Requests that run or wait on nodes; more are answered with 503. */
  readonly maxInflight: number;
  /** Embeddings of all requests in work, in base64. */
  readonly maxEmbedsBytes: number;
  /** Body of an API request. */
  readonly maxBodyBytes: number;
  /** One message of a node. */
  readonly maxMessageBytes: number;
  readonly messagesPerSecond: number;
  readonly bytesPerSecond: number;
  /** Written to a node but not yet taken by its socket; a node that stays above it is closed. */
  readonly maxBufferedBytes: number;
  /** How long a decode node may try to open a channel of each transport. */
  readonly transferOpenMs: number;
  /** Of KV blocks that one node relays to another: kept for a node that does not take them, before its senders wait. */
  readonly bulkBufferedBytes: number;
  /** The same for all nodes together. */
  readonly bulkTotalBytes: number;
  /** A node that takes none of them for so long is closed. */
  readonly bulkStallMs: number;
  /** A socket that has not said `hello` by then is closed. */
  readonly helloMs: number;
  /** Two pings in a row without an answer, and the node is gone. */
  readonly pingMs: number;
  /** A request that got no token for so long fails, where no other node can go on with it. */
  readonly requestIdleMs: number;
  /** A node is taken for hung when a request got no token for so long, or for 20 of its usual pauses, and no step was computed. */
  readonly stallMs: number;
  /** The same before the first token of an attempt, when no pause is known yet. */
  readonly firstTokenStallMs: number;
  /** How long a request whose node was lost waits for another one. */
  readonly migrationWaitMs: number;
  /** How long the id of a node that left stays its own. */
  readonly resumeMs: number;
}

export const DEFAULT_LIMITS: HubLimits = {
  maxNodes: 8192,
  maxInflight: 4096,
  maxEmbedsBytes: 128 << 20,
  maxBodyBytes: 8 << 20,
  maxMessageBytes: 16 << 20,
  messagesPerSecond: 2000,
  bytesPerSecond: 64 << 20,
  maxBufferedBytes: 32 << 20,
  transferOpenMs: 4000,
  bulkBufferedBytes: 4 << 20,
  bulkTotalBytes: 256 << 20,
  bulkStallMs: 10_000,
  helloMs: 5000,
  pingMs: 5000,
  requestIdleMs: 300_000,
  stallMs: 5000,
  firstTokenStallMs: 30_000,
  migrationWaitMs: 30_000,
  resumeMs: 600_000,
};

/** What the hub's answers allow to pages of listed origins; in lists `*` = all. */
export interface CorsConfig {
  readonly credentials: boolean;
  readonly methods: readonly string[];
  readonly headers: readonly string[];
}

/** How prompts are computed on other nodes than the answers. */
export interface DisaggregationConfig {
  /** Ways that KV blocks may go, in the order to try them. */
  readonly transports: readonly TransportName[];
  /** A transfer without progress for so long is given up, milliseconds. */
  readonly timeoutMs: number;
  /** Uncached prompt tokens from which a prefill node computes them; null = where it is expected to be faster. */
  readonly minTokens: number | null;
}

/** All that a hub needs to know; the command line makes one from its options. */
export interface HubConfig {
  /** Address to listen on. */
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** PEM texts; null = plain http. */
  readonly tls: { readonly cert: string; readonly key: string } | null;
  /** Port of its own for `/metrics`, 0 = any free one; null = none. */
  readonly metricsPort: number | null;
  /** Port of its own for `/health`, `/live` and `/metrics`, 0 = any free one; null = none. */
  readonly systemPort: number | null;
  /** Namespace of the nodes, as Dynamo has it: a name to tell hubs apart by. */
  readonly namespace: string;
  readonly models: readonly ModelConfig[];
  readonly loras: LoraConfig;
  /** Keys that `/v1/*` takes as `Authorization: Bearer`; empty = open. */
  readonly apiKeys: readonly string[];
  /** Key that admin calls send as `Authorization: Bearer`; null = they come from this machine only. */
  readonly adminKey: string | null;
  /** Ticket that a node must show in `hello`; null = anyone who reaches the hub may join. */
  readonly joinToken: string | null;
  /** Web origins beside the hub's own that may call the API and join, e.g. `https://chat.example`; `*` = all. */
  readonly allowedOrigins: readonly string[];
  /** What pages of those origins are let do. */
  readonly cors: CorsConfig;
  /** Names beside loopback and `host` that the `Host` header may hold. */
  readonly allowedHosts: readonly string[];
  readonly blockSize: number;
  readonly hashAlgo: 'xxh3' | 'sha256';
  /** What `sha256` hashes begin with. */
  readonly hashSeed: string;
  readonly router: RouterConfig;
  /** Who beside the router hears of KV events; null = nobody. */
  readonly kvPublisher: ZmqConfig | null;
  readonly disaggregation: DisaggregationConfig;
  /** The Dynamo deployment that the nodes are workers of too; null = none. */
  readonly dynamo: Omit<BridgeConfig, 'namespace'> | null;
  /** Options (by flag name, without dashes) that `welcome` offers to nodes. */
  readonly nodeOptions: Readonly<Record<string, string>>;
  /** Upper bound on prompt + output; null = the model's own. */
  readonly maxModelLen: number | null;
  /** Requests may have `prompt_embeds`. */
  readonly promptEmbeds: boolean;
  /** Requests may have a `priority`. */
  readonly priorities: boolean;
  /** Serve ids only; the model folder needs no tokenizer. */
  readonly skipTokenizerInit: boolean;
  /** Jinja text that takes the place of the model's chat template. */
  readonly chatTemplate: string | null;
  /** How tool calls and reasoning are found in answers. */
  readonly parsers: AskedParsers;
  /** What models are for, and how those for embeddings make them. */
  readonly pooler: PoolerWish;
  /** `auto` takes default sampling from the model's `generation_config.json`; `vllm` uses neutral defaults. */
  readonly generationConfig: 'auto' | 'vllm';
  /** Which of the API's endpoints are there. */
  readonly endpointTypes: readonly EndpointType[];
  /** Built page; null = no page (API only). */
  readonly staticDir: string | null;
  /** Probes of idle nodes; null = none. */
  readonly healthCheck: (HealthCheckConfig & { readonly payload: CanaryPayload }) | null;
  /** After `close`, requests that come late are taken for so long. */
  readonly graceSeconds: number;
  /** After that, running requests may go on for so long. */
  readonly drainSeconds: number;
  /** Seconds of silence after which a streamed answer gets a comment; null = none. */
  readonly keepAliveSeconds: number | null;
  /** Most seconds of an API request, from its arrival to its last byte; null = as long as it takes. */
  readonly requestTimeoutSeconds: number | null;
  /** Attempts of a request after the first, when nodes are lost. */
  readonly migrationLimit: number;
  readonly limits: HubLimits;
}
