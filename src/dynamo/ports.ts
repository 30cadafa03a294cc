import type { Logger } from 'pino';
import type { ServedModel } from '../frontend/backend.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { KvFollower } from '../protocol/kv-follower.ts';
import type { Card, Load } from '../protocol/messages.ts';

/** A ready node of the hub; its id and card stay the same as long as it is listed. */
export interface BridgeNode {
  readonly id: string;
  /** Served name of its model. */
  readonly model: string;
  readonly card: Card;
}

/** A file of a model as Dynamo's frontends need it: configuration, tokenizer, template; no weights. */
export interface BridgeFile {
  /** As in Hugging Face's layout, e.g. `tokenizer.json`. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A model that the hub serves. */
export interface BridgeModel {
  readonly served: ServedModel;
  /** Prompt and output together, tokens: the hub's bound, whatever its nodes are. */
  readonly maxModelLen: number;
  /** Tokens of a KV block. */
  readonly blockSize: number;
  readonly files: readonly BridgeFile[];
}

/** Where a request shall begin. */
export interface WishedPlace {
  /** The node that Dynamo's router chose. Where it is ready no more, the hub's own router chooses. */
  readonly node: string;
  /** Its data-parallel rank; null = the hub chooses. */
  readonly rank: number | null;
  /** The prefill node that shall compute the prompt; null = the hub decides. */
  readonly prefill: { readonly node: string; readonly rank: number } | null;
}

/** All that the bridge needs of the hub that it is part of. */
export interface BridgeHub {
  readonly models: readonly BridgeModel[];
  /** Whether requests may go before others (`--scheduling-policy priority`). */
  readonly priorities: boolean;
  /** Nodes that take requests now, of all roles. */
  nodes(): readonly BridgeNode[];
  /** Calls back after nodes came, went or changed. Returns how to stop it. */
  onNodeChange(listener: () => void): () => void;
  /** Calls back with each report of a node's load. Returns how to stop it. */
  onLoad(listener: (node: string, load: Load) => void): () => void;
  /** From now on `follower` hears of the prefix caches of all nodes. */
  followKv(follower: KvFollower): void;
  /**
   * Frames as those of `Backend.generate`: when a node is lost, the hub goes on on another one of the model, and no token comes twice.
   * Throws `ApiError`; its code is `node_lost` when the node was lost and nobody could go on.
   */
  generate(
    model: string,
    request: GenerateRequest,
    place: WishedPlace,
    signal: AbortSignal,
  ): AsyncIterable<TokensFrame>;
}

/** One node as one worker of a Dynamo deployment. */
export interface BridgeWorker {
  readonly node: BridgeNode;
  readonly model: BridgeModel;
}

/** What `generateHandler` (`requests/generate-handler.ts`) makes the handler of a worker's endpoint `generate` of; a worker of role `prefill` answers as prefill workers do. */
export interface GenerateDeps {
  readonly hub: Pick<BridgeHub, 'generate' | 'priorities'>;
  readonly worker: BridgeWorker;
  readonly log: Logger;
}

/** Dynamo's words for what went wrong (1.4.0), as `error_type` of an error item. */
export type DynamoErrorType =
  | 'Unknown'
  | 'InvalidArgument'
  | 'Disconnected'
  | 'Cancelled'
  | 'ResourceExhausted'
  | 'Unavailable'
  | { readonly Backend: 'EngineShutdown' | 'InvalidArgument' };

/** The answer stream of one request. After `error` or `end`, and after the peer is gone, nothing more is sent, and calls do nothing. */
export interface Reply {
  /** The prologue: generation may start. Once, before the first item. */
  accept(): void;
  /**
   * One item; bigints in it are written as JSON integers. `annotated` wraps it as answers of models are, `{"data":{"data":…}}`; `bare` as the
   * answers of recovery endpoints are, `{"data":…}`. Resolves when the peer may take more.
   */
  item(data: object, form?: 'annotated' | 'bare'): Promise<void>;
  /** The item `{ token_ids: ids }`, as nearly all of an answer's are: the same bytes in less time. */
  tokens(ids: readonly number[]): Promise<void>;
  /** An error item, after `accept` where it was not called, and the end of the stream. */
  error(type: DynamoErrorType, message: string): void;
  /** The last item was sent. */
  end(): void;
  /** Ends the stream as a worker that is lost does: without the mark that it is complete. */
  abandon(): void;
}

/**
 * Answers one request. body: decoded JSON or msgpack, unchecked; integers above 2^53 are bigints. signal aborts when nobody reads any more
 * (kill, stop, a closed socket). A handler that throws, or resolves before `end` or `error`, is answered for with an `Unknown` error.
 */
export type Handler = (body: unknown, reply: Reply, signal: AbortSignal) => Promise<void>;

/** Told what happens to the requests of one endpoint, for the metrics. */
export interface RequestObserver {
  /** A frame of so many bytes was taken. */
  began(bytes: number): void;
  /** Bytes that went to the frontend: once, before `ended`. */
  sent(bytes: number): void;
  /** Once for each `began`. seconds: since the frame came. */
  ended(outcome: 'success' | 'error' | 'cancelled', seconds: number): void;
}

/** One TCP port that takes the requests of any number of workers (README of the wire: request plane). */
export interface RequestPlane {
  /** `IP:port`, IPv6 in brackets; an instance record has `{address}/{path}`. */
  readonly address: string;
  /** path: `{instance id, hex}/{endpoint}`. Replaces a handler of the same path. */
  serve(path: string, handler: Handler, observer?: RequestObserver): void;
  /** Requests of the path are refused from now on (`Server unavailable`); those that run go on. */
  remove(path: string): void;
  /** Refuses new requests, and cuts those that still run with `EngineShutdown`. */
  close(): Promise<void>;
}
