import type { StepRecord } from '../engine/api.ts';
import type { NodeSnapshot } from './snapshot.ts';
import type { SoloSource } from './solo-model.ts';

export interface JoinOptions {
  /** Origin of the hub, e.g. `https://192.168.1.5:8080`. */
  readonly hubUrl: string;
  readonly ticket: string | null;
  /** What the hub's dashboard calls this node. */
  readonly agent: string;
  /** The page's query, for the options table. */
  readonly query: string;
}

/** What a page does for its worker, which a browser lets pages alone do. */
export interface PageServices {
  /** A port to the broker of all pages of this origin and browser profile; null without SharedWorker. */
  openBroker(): MessagePort | null;
  /** A port to this page's WebRTC connections; null without WebRTC. */
  openPeers(): MessagePort | null;
}

export interface SoloOptions {
  readonly source: SoloSource;
  readonly query: string;
}

/** A request to the API inside the worker. */
export interface ApiRequest {
  readonly method: string;
  /** Path and query, e.g. `/v1/chat/completions`. */
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string | null;
}

export interface ApiResponseHead {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
}

/** Where an answer goes, piece by piece; `end` is the last call. */
export interface ApiResponseSink {
  head(head: ApiResponseHead): void;
  chunk(bytes: Uint8Array): void;
  end(error: string | null): void;
}

/** What the worker offers to its page, over comlink. */
export interface WorkerApi {
  /** Snapshots from now on, at most ten a second; the newest at once. */
  subscribe(listener: (snapshot: NodeSnapshot) => void): void;
  /** Makes this page a node of a hub. What comes of it shows in the snapshots. */
  join(options: JoinOptions, page: PageServices): Promise<void>;
  /** Starts the engine for this page alone. What comes of it shows in the snapshots. */
  solo(options: SoloOptions): Promise<void>;
  /**
   * Leaves the hub or stops the solo engine, and frees the GPU. `drain`: when the requests that run here have ended; `now`, also while it
   * drains: they go on on other nodes.
   */
  leave(how: 'drain' | 'now'): Promise<void>;
  /** The engine's last steps. */
  steps(): StepRecord[];
  /** Asks the API in the worker (solo only). Returns the number by which `abort` knows the request. */
  request(request: ApiRequest, sink: ApiResponseSink): number;
  /** Nobody reads the answer any more: computing stops. */
  abort(request: number): void;
}
