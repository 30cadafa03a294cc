import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { KvEvent, KvSnapshot } from '../protocol/kv-events.ts';
import type { AdapterCard, Load } from '../protocol/messages.ts';

/** What one step of the engine did; tests read these to prove that batching, mixing and overlap happened. */
export interface StepRecord {
  readonly step: number;
  readonly rows: number;
  readonly prefillRows: number;
  readonly decodeRows: number;
  /** Submits of earlier steps whose readback was still pending when this one was submitted. */
  readonly inFlight: number;
  readonly submits: number;
  readonly dispatches: number;
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
  readonly kvCacheDtype: 'f32' | 'bf16' | 'f16';
  readonly vocabSize: number;
}

/** What an engine tells its owner. Called from the engine's loop; must not throw and must not block. */
export interface EngineListener {
  /** All new tokens of one consumed step. */
  tokens(frames: TokensFrame[]): void;
  kvEvents(events: KvEvent[]): void;
  /** One request failed; the others go on. */
  failed(request: string, error: EngineError): void;
  /** The engine is gone (device lost, out of memory): nothing will come any more. */
  lost(error: EngineError): void;
}

/** The part of a node that owns the GPU. Knows nothing of sockets, HTTP or OpenAI. */
export interface Engine {
  readonly info: EngineInfo;
  /** Queues a request. Throws `EngineError` code `invalid_request` when it can never run here (too long, bad ids), `overloaded` when the queue is full. */
  add(request: GenerateRequest): void;
  /** The request is in no step scheduled after this call. Its blocks are freed. No more frames come for it. Unknown ids are ignored. */
  cancel(request: string): void;
  load(): Load;
  /** The last steps, oldest first (bounded). */
  steps(): StepRecord[];
  snapshot(): KvSnapshot;
  /** For drawing: one byte per block: 0 free, 1 free but cached, 2 in use, 3 in use and shared. */
  blockMap(): Uint8Array;
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
