import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { KvEvent, KvSnapshot } from '../protocol/kv-events.ts';
import type { AdapterCard, EngineLoad, SleepLevel } from '../protocol/messages.ts';
import type { KvSection } from '../protocol/transfer.ts';
import type { KvDtype } from './kernels/dtype.ts';
import type { Loras } from './lora/loras.ts';

/** What one step of the engine did; tests read these to prove that batching, mixing and overlap happened. */
export interface StepRecord {
  readonly step: number;
  readonly rows: number;
  readonly prefillRows: number;
  readonly decodeRows: number;
  /** Of the decode rows those for drafts, whether one was found or not. */
  readonly draftRows: number;
  /** Submits of earlier steps whose readback was still pending when this one was submitted. */
  readonly inFlight: number;
  readonly submits: number;
  readonly dispatches: number;
  /** Different LoRA adapters that rows of the step go through, and how many rows go through any. */
  readonly loras: number;
  readonly loraRows: number;
  /** Rows that sampled under a grammar. */
  readonly constrainedRows: number;
  /** Bytes that the step moves: weights, activations, K and V. */
  readonly bytes: number;
  readonly preempted: number;
  /** Host time spent on scheduling, encoding and submitting, milliseconds. */
  readonly hostMs: number;
}

export interface EngineInfo {
  readonly model: string;
  readonly fingerprint: string;
  readonly numericsId: string;
  readonly adapter: AdapterCard;
  readonly blockSize: number;
  readonly totalBlocks: number;
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly kvCacheDtype: KvDtype;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** It gives embeddings, and takes requests for nothing else; else it takes none for embeddings. */
  readonly pools: boolean;
  readonly layers: number;
  /** Bytes of the K, or the V, of one block in one layer: what payloads of KV are counted in. */
  readonly layerBlockBytes: number;
}

/** How far the engine is with the prompt of a `prefill`. */
export interface PrefillProgress {
  /** Leading full blocks of the prompt that `export` can give by now. */
  readonly blocks: number;
  /** The whole prompt is computed. */
  readonly done: boolean;
  /** Prompt tokens computed for it so far, and those that were in the prefix cache. */
  readonly computedTokens: number;
  readonly cachedTokens: number;
}

/**
 * Blocks taken for KV that comes from elsewhere: the full blocks of a prompt, without its last token, that are not in
 * the prefix cache. The cached ones before them are held too. Ends with one `commit` or `abort`; after either, or once
 * the engine is closed, `write` and `commit` throw.
 */
export interface KvReservation {
  /** Number, in the prompt, of the first block taken. */
  readonly firstBlock: number;
  /** Chained hash of each block taken, at least one. */
  readonly hashes: readonly bigint[];
  /** Puts a payload, laid out as `KvSection` says, into the blocks. Throws `EngineError` code `invalid_request`, and writes nothing, when section or length do not fit. */
  write(section: KvSection, payload: Uint8Array): void;
  /** Puts the blocks into the prefix cache, and lets go of them: an `add` in the same turn hits them. Throws, and changes nothing, when some of their bytes were not written. */
  commit(): void;
  /** Frees the blocks; nothing of them is cached. May be called again, and after the end. */
  abort(): void;
}

/** What an engine tells its owner. Called from the engine's loop; must not throw and must not block. */
export interface EngineListener {
  /** All new tokens of one consumed step. */
  tokens(frames: TokensFrame[]): void;
  kvEvents(events: KvEvent[]): void;
  /** A `prefill` came forward: told for its cached blocks, then after each step that computed some of its prompt. */
  prefilled(request: string, progress: PrefillProgress): void;
  /** One request failed; the others go on. */
  failed(request: string, error: EngineError): void;
  /** The engine is gone (device lost, out of memory): nothing will come any more. */
  lost(error: EngineError): void;
}

/** The part of a node that owns the GPU. Knows nothing of sockets, HTTP or OpenAI. */
export interface Engine {
  readonly info: EngineInfo;
  /** Shared by all engines of the GPU; null where there may be none. */
  readonly loras: Loras | null;
  /** Queues a request. Throws `EngineError` code `invalid_request` when it can never run here (too long, bad ids), `overloaded` when the queue is full. */
  add(request: GenerateRequest): void;
  /** The request is in no step scheduled after this call. Its blocks are freed. No more frames come for it. Unknown ids are ignored. */
  cancel(request: string): void;
  /**
   * Queues the computing of a prompt alone: no `tokens` come of it; `listener.prefilled` tells how far it is. Its blocks
   * are held, also after the end, until `cancel`. Choices and sampling are not looked at. Throws like `add`, and
   * `invalid_request` without prefix caching.
   */
  prefill(request: GenerateRequest): void;
  /** KV of blocks of a `prefill`, as `KvSection` lays it out. Rejects with `EngineError` code `invalid_request` when they are not computed (yet), or are more than one frame carries. */
  export(request: string, section: KvSection): Promise<ArrayBuffer>;
  /**
   * Takes blocks for KV of a request's prompt. `cached`: nothing is wanted; `no_room`: too few blocks are free. Throws
   * `EngineError` code `invalid_request` without prefix caching, and for what `add` refuses.
   */
  reserve(request: GenerateRequest): KvReservation | 'cached' | 'no_room';
  /** Forgets the prefix cache. What runs keeps its blocks, but nobody else hits them any more. */
  resetPrefixCache(): void;
  /** Resolves when the loop has made a turn and the GPU has done work submitted after the call; hangs while either hangs. Rejects once the engine is lost or closed. */
  heartbeat(): Promise<void>;
  load(): EngineLoad;
  /** The last steps, oldest first (bounded). */
  steps(): StepRecord[];
  snapshot(): KvSnapshot;
  /** For drawing: one byte per block: 0 free, 1 free but cached, 2 in use, 3 in use and shared. */
  blockMap(): Uint8Array;
  /** Frees the GPU, whatever state the engine is in. */
  close(): Promise<void>;
}

/** The engines of one GPU. They begin, sleep and end together. */
export interface EngineGroup {
  readonly engines: readonly [Engine, ...Engine[]];
  /**
   * Ends the engines and frees all that they hold of the GPU, but the device and its compiled shaders. Prefix caches are forgotten and LoRA
   * adapters gone: whoever loaded them loads them into the engines that wake up. What runs should have been cancelled, since nothing more
   * comes of it. Level 1 keeps the weights in the memory of the page, level 2 does not.
   * Rejects with `EngineError` code `out_of_memory`, and nothing has changed, where the page cannot hold them.
   */
  sleep(level: SleepLevel): Promise<SleepingGroup>;
}

/** Engines that hold nothing of the GPU but the device. */
export interface SleepingGroup {
  /** Bytes of weights in the memory of the page. */
  readonly keptBytes: number;
  /**
   * Engines as those were that fell asleep: weights byte for byte, same bounds, empty caches. Each has passed its self-test. Rejects with
   * `EngineError`: what may befall a start, and `device_lost` where the device was lost meanwhile; only `close` is left then.
   */
  wake(): Promise<EngineGroup>;
  /** Frees the device. */
  close(): Promise<void>;
}

export type EngineErrorCode =
  | 'invalid_request'
  | 'overloaded'
  | 'no_adapter'
  | 'software_adapter'
  | 'out_of_memory'
  | 'device_lost'
  | 'self_test'
  | 'model'
  | 'internal';

/** An error of the engine: what happened, why, and what to do next, in `message`. */
export class EngineError extends Error {
  constructor(
    readonly code: EngineErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'EngineError';
  }
}
