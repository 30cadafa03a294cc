import * as z from 'zod';
import { GenerateRequest, LoraName, RequestId, TokensFrame } from './generate.ts';
import { KvEvent, KvSnapshotPart } from './kv-events.ts';
import { MAX_MODEL_FILES } from './model-files.ts';
import { Pooler } from './pooling.ts';
import { MAX_CREDIT, TransferId, TransferOutcome, TransportName, Wanted } from './transfer.ts';

/** WebSocket subprotocols this code speaks, best first. */
export const VERSIONS = ['quire.v1'] as const;

/** Most engines of one node, and most ranks of a group of nodes. */
export const MAX_RANKS = 64;

const text = z.string().max(4096);
const count = z.number().int().min(0);
const attempt = z.number().int().min(0).max(1024);
/** A data-parallel rank. */
const rank = z
  .number()
  .int()
  .min(0)
  .max(MAX_RANKS - 1);

export const Role = z.enum(['agg', 'prefill', 'decode']);
export type Role = z.infer<typeof Role>;

/** The adapter a node computes on, as WebGPU names it. */
export const AdapterCard = z.object({
  vendor: text,
  architecture: text,
  device: text,
  description: text,
  /** A CPU in GPU's clothes (SwiftShader, llvmpipe, WARP). */
  software: z.boolean(),
  features: z.array(text).max(256),
});
export type AdapterCard = z.infer<typeof AdapterCard>;

/** What a node says of itself on registration. */
export const Card = z.object({
  model: text,
  /** SHA-256 over config and weight files: equal fingerprints are the same model. */
  fingerprint: text,
  /** Equal ids give bit-equal answers: adapter, driver, weight and KV dtype, reduction order. */
  numericsId: text,
  role: Role,
  /** Its first data-parallel rank, and how many it has from there on: one engine each, with a pool and sequences of its own. */
  dpRank: rank,
  dpSize: z.number().int().min(1).max(MAX_RANKS),
  adapter: AdapterCard,
  blockSize: count,
  /** Of each rank, as are the bounds that follow. */
  totalBlocks: count,
  maxModelLen: count,
  maxNumSeqs: count,
  maxNumBatchedTokens: count,
  kvCacheDtype: text,
  hashAlgo: z.enum(['xxh3', 'sha256']),
  /** Ways by which this node can hand over or take KV blocks, best first. */
  transports: z.array(TransportName).max(3),
  /** Nodes of one scope (origin and browser profile) reach each other by `local`; null = none. */
  localScope: text.nullable(),
});
export type Card = z.infer<typeof Card>;

/** What an adapter allows, as far as it says before an engine is made: by this a hub of several models chooses one (J11). */
export const AdapterRoom = z.object({
  maxBufferSize: count,
  maxStorageBufferBindingSize: count,
  software: z.boolean(),
});
export type AdapterRoom = z.infer<typeof AdapterRoom>;

/** Counters of an engine since it started, and its state now. */
export const EngineLoad = z.object({
  running: count,
  waiting: count,
  usedBlocks: count,
  totalBlocks: count,
  /** Sampled tokens per second over the last seconds. */
  tokensPerSecond: z.number(),
  counters: z.object({
    steps: count,
    mixedSteps: count,
    submits: count,
    /** Submits made while the readback of an earlier step was pending. */
    overlappedSubmits: count,
    rows: count,
    decodeRows: count,
    prefillRows: count,
    sampledTokens: count,
    cachedTokens: count,
    /** Drafts that were found, and those that were right (`--speculative-config`). */
    draftTokens: count,
    acceptedTokens: count,
    preemptions: count,
  }),
});
export type EngineLoad = z.infer<typeof EngineLoad>;

/** The same of the engine of one rank of a node. */
export const Load = EngineLoad.extend({ rank });
export type Load = z.infer<typeof Load>;

export const NodeStage = z.enum(['joining', 'downloading', 'warming', 'ready', 'asleep', 'draining']);
export type NodeStage = z.infer<typeof NodeStage>;

/** While a node sleeps, the weights are in the memory of its page (1), or nowhere (2). */
export const SleepLevel = z.union([z.literal(1), z.literal(2)]);
export type SleepLevel = z.infer<typeof SleepLevel>;

/** Where a node gets the model from, and what the hub offers it on join (the third place in precedence). */
export const ModelOffer = z.object({
  name: text,
  fingerprint: text,
  /** Base path of the model's files on the hub, e.g. `/models/quire-pico/`; `files` are relative to it. */
  base: text,
  files: z
    .array(z.object({ path: text, size: count, sha256: z.string().regex(/^[0-9a-f]{64}$/) }))
    .max(MAX_MODEL_FILES),
  /** It gives embeddings and generates nothing, and this is how it makes them; left out = it generates. */
  pooler: Pooler.optional(),
});
export type ModelOffer = z.infer<typeof ModelOffer>;

/** Most LoRA adapters of one model. */
export const MAX_LORAS = 64;

/** A LoRA adapter as it is known to both sides: its name, and the fingerprint of its files. */
const LoraId = z.object({ name: LoraName, fingerprint: text });
export type LoraId = z.infer<typeof LoraId>;

export const ErrorCode = z.enum([
  'version', // no common protocol version
  'ticket', // join token missing or wrong
  'protocol', // message that breaks a rule
  'model', // fingerprint, block size or hash algorithm differs from the hub's
  'overloaded', // a bound was reached
  'invalid_request', // the request can never run here
  'engine', // the engine failed
]);
export type ErrorCode = z.infer<typeof ErrorCode>;

/** What a decode node is told with a request whose prompt another node shall compute. */
export const RemotePrefill = z.object({
  transfer: TransferId,
  /** The prefill node. */
  node: text,
  /** Ways that both nodes have, in the order to try them. */
  transports: z.array(TransportName).min(1).max(3),
  /** Longest time without progress, milliseconds. */
  timeoutMs: z.number().min(1),
});
export type RemotePrefill = z.infer<typeof RemotePrefill>;

/** One message of a WebRTC handshake; opaque to the hub. */
const signal = z.string().max(64 << 10);

/** Node -> hub. `docs/protocol.md` holds the rules; their numbers are in the comments. */
export const NodeMessage = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    versions: z.array(text).max(16),
    ticket: text.optional(),
    resume: z.object({ node: text, token: text }).optional(),
    /** Fingerprint of the model that the node was offered before: a hub that knows it no more offers the same, if it can. */
    loaded: text.optional(),
    agent: text,
    /** Left out where the node has no adapter, or does not know. */
    room: AdapterRoom.optional(),
    /** The page's query: options that win over those of the hub. */
    query: text.optional(),
  }),
  z.object({ type: z.literal('stage'), stage: NodeStage, detail: text, loadedBytes: count, totalBytes: count }),
  z.object({ type: z.literal('register'), card: Card }),
  z.object({ type: z.literal('tokens'), epoch: count, frames: z.array(TokensFrame.extend({ attempt })).max(4096) }),
  z.object({ type: z.literal('failed'), epoch: count, request: RequestId, attempt, code: ErrorCode, message: text }),
  z.object({ type: z.literal('kv_events'), rank, events: z.array(KvEvent).max(4096) }),
  z.object({ type: z.literal('kv_snapshot'), rank, snapshot: KvSnapshotPart }),
  /** Decode node: it has taken blocks for the prompt, its end of the channel is open, and the prefill node may begin. */
  z.object({
    type: z.literal('transfer_open'),
    epoch: count,
    transfer: TransferId,
    transport: TransportName,
    wanted: Wanted,
    credit: count.max(MAX_CREDIT),
  }),
  /** Decode node: the transfer is over, in this way. */
  z.object({ type: z.literal('transfer_closed'), epoch: count, transfer: TransferId, outcome: TransferOutcome }),
  /** Prefill node: it has done its part, or will not; `failed` says why. Nothing of the transfer is held any more. */
  z.object({
    type: z.literal('prefill_closed'),
    epoch: count,
    transfer: TransferId,
    computedTokens: count,
    blocks: count,
    bytes: count,
    failed: text.nullable(),
  }),
  z.object({ type: z.literal('signal'), epoch: count, transfer: TransferId, data: signal }),
  /** Which of the hub's LoRA adapters of a revision are on its GPU, and why others are not (rule A3). */
  z.object({
    type: z.literal('loras'),
    revision: count,
    loaded: z.array(LoraId).max(MAX_LORAS),
    failed: z.array(LoraId.extend({ message: text })).max(MAX_LORAS),
  }),
  z.object({ type: z.literal('load'), load: Load }),
  z.object({ type: z.literal('pong'), nonce: count }),
  z.object({ type: z.literal('drain'), reason: text }),
  z.object({ type: z.literal('error'), code: ErrorCode, message: text }),
]);
export type NodeMessage = z.infer<typeof NodeMessage>;

/** Hub -> node. */
export const HubMessage = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('welcome'),
    version: text,
    node: text,
    resumeToken: text,
    epoch: count,
    model: ModelOffer,
    blockSize: count,
    hashAlgo: z.enum(['xxh3', 'sha256']),
    /** Options (by flag name, without dashes) that the hub offers its nodes; a page's query wins over them. */
    options: z.record(z.string(), z.string()),
    /** Requests of this node that still live after a reconnect; it drops all others. */
    live: z.array(z.object({ request: RequestId, attempt })).max(65536),
  }),
  z.object({ type: z.literal('registered'), node: text }),
  /** The node has said `drain`: no `generate` follows this. */
  z.object({ type: z.literal('unregistered') }),
  /** With `prefill`, another node computes the prompt, and this one takes its blocks. */
  z.object({
    type: z.literal('generate'),
    attempt,
    /** The rank that computes it. */
    rank,
    generate: GenerateRequest,
    prefill: RemotePrefill.optional(),
  }),
  /** To the prefill node: compute the prompt, and send what is wanted to the node `peer`, whose end of the channel is open. */
  z.object({
    type: z.literal('prefill'),
    transfer: TransferId,
    rank,
    /** `maxTokens` is 1 and the token is thrown away. `request` is the transfer's id. */
    generate: GenerateRequest,
    peer: text,
    transport: TransportName,
    wanted: Wanted,
    credit: count.max(MAX_CREDIT),
    timeoutMs: z.number().min(1),
  }),
  /** To either node: the transfer is over (the other node left, or the request was cancelled). */
  z.object({ type: z.literal('transfer_cancel'), transfer: TransferId, message: text }),
  z.object({ type: z.literal('signal'), transfer: TransferId, data: signal }),
  z.object({ type: z.literal('cancel'), request: RequestId, attempt }),
  /** All LoRA adapters that the node shall have, and where their files are (rule A2). */
  z.object({
    type: z.literal('loras'),
    /** Grows with each change. */
    revision: count,
    adapters: z.array(ModelOffer.extend({ name: LoraName })).max(MAX_LORAS),
  }),
  z.object({ type: z.literal('kv_snapshot_request'), rank }),
  z.object({ type: z.literal('reset_prefix_cache') }),
  /** Free the GPU, and tell the stage `asleep` then. */
  z.object({ type: z.literal('sleep'), level: SleepLevel }),
  /** To a node that is asleep: be as before, and register anew. */
  z.object({ type: z.literal('wake') }),
  z.object({ type: z.literal('ping'), nonce: count }),
  z.object({ type: z.literal('drain'), reason: text, graceSeconds: z.number().min(0) }),
  z.object({ type: z.literal('error'), code: ErrorCode, message: text }),
]);
export type HubMessage = z.infer<typeof HubMessage>;

/** JSON with u64 as decimal strings. */
export function encode(message: z.input<typeof NodeMessage> | NodeMessage | HubMessage): string {
  return JSON.stringify(message, (_key, value) => (typeof value === 'bigint' ? value.toString() : value));
}
