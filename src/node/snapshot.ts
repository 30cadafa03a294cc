import type { AdapterCard, Card, Load, NodeStage } from '../protocol/messages.ts';
import type { RoleRefusals } from './transfer/plan.ts';

/**
 * Where a node is in its life, as its page shows it. `idle`: never joined or left by choice; `reconnecting`: the hub is
 * out of reach, the engine keeps its cache; `refused`: this page cannot lend (no adapter, failed self-test, wrong ticket,
 * other model); `gone`: it served and then lost its engine or its hub for good.
 */
export type PageStage = NodeStage | 'idle' | 'reconnecting' | 'refused' | 'gone';

/** Why a node is `refused` or `gone`: `code` for styling and tests, `message` says what happened, why and what to do next. */
export interface NodeProblem {
  readonly code: string;
  readonly message: string;
}

/** KV that a node handed over since it joined. */
export interface HandedOver {
  /** Transfers that go on now. */
  readonly active: number;
  /** Blocks that it took from others, and gave to others. */
  readonly taken: number;
  readonly given: number;
  /** Frames that came when their transfer was over; none was written. */
  readonly lateFrames: number;
}

/** All that a page shows of its node; the worker sends one at most ten times a second. */
export interface NodeSnapshot {
  readonly stage: PageStage;
  /** What is going on right now, e.g. the file that is loading. */
  readonly detail: string;
  /** Bytes of the model, while `downloading`. */
  readonly progress: { readonly loadedBytes: number; readonly totalBytes: number } | null;
  /** Id that the hub gave; null in solo mode and before the first welcome. */
  readonly node: string | null;
  /** Served name of the model. */
  readonly model: string | null;
  /** From the first welcome: which roles this node could have. null in solo mode and before. */
  readonly roleRefusals: RoleRefusals | null;
  /** From the moment the GPU is open. */
  readonly adapter: AdapterCard | null;
  /** From the moment the engine is ready. */
  readonly card: Card | null;
  /** Of each rank, lowest first, as are the block maps. */
  readonly loads: readonly Load[] | null;
  /** One byte per block: 0 free, 1 free but cached, 2 in use, 3 in use and shared. */
  readonly blockMaps: readonly Uint8Array[] | null;
  /** null for a node that hands nothing over. */
  readonly handedOver: HandedOver | null;
  /** Set while the stage is `refused` or `gone`, and after a try to reconnect failed. */
  readonly problem: NodeProblem | null;
}

export const IDLE: NodeSnapshot = {
  stage: 'idle',
  detail: '',
  progress: null,
  node: null,
  model: null,
  roleRefusals: null,
  adapter: null,
  card: null,
  loads: null,
  blockMaps: null,
  handedOver: null,
  problem: null,
};
