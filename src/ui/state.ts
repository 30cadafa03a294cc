/**
 * All that the page draws, as signals. `controller.ts` is the only writer; components read, and call the controller's functions.
 */
import { computed, signal } from '@preact/signals';
import type { Capability } from '../node/page/capabilities.ts';
import { IDLE, type NodeSnapshot } from '../node/snapshot.ts';
import type { HistorySample } from '../protocol/cluster-history.ts';
import type { ClusterSummary } from '../protocol/cluster-summary.ts';
import type { Role } from '../protocol/messages.ts';
import type { AnswerWay } from './answer-way.ts';

/** `cluster`: a page of a hub. `solo`: the engine of this page alone, no hub. */
export const mode: 'cluster' | 'solo' = import.meta.env.MODE === 'solo' ? 'solo' : 'cluster';

/** The engine runs for this page alone: without a hub always, on a page of a hub with a model of a person's own. */
export const alone = signal(mode === 'solo');

/** One question and what came back. */
export interface ChatTurn {
  readonly question: string;
  /** What the model thought before it answered; '' where it tells nothing of that. */
  readonly reasoning: string;
  readonly answer: string;
  readonly status: 'waiting' | 'streaming' | 'done' | 'stopped' | 'failed';
  /** Set when `failed`: what happened and what to do. */
  readonly error: string | null;
  readonly stats: AnswerStats | null;
  /** By which nodes it was made; null while unknown, and where there are none. */
  readonly way: AnswerWay | null;
}

/** Numbers of one answer; grows while it streams. */
export interface AnswerStats {
  /** From sending to the first text, milliseconds. */
  readonly firstTokenMs: number | null;
  /** Of the tokens after the first. */
  readonly tokensPerSecond: number | null;
  readonly completionTokens: number;
  readonly promptTokens: number | null;
  /** Prompt tokens that came from the prefix cache. */
  readonly cachedTokens: number | null;
  readonly finishReason: string | null;
}

export interface ChatSettings {
  /** null = the model's own (generation_config.json). */
  readonly temperature: number | null;
  readonly maxTokens: number;
}

/** What the hub said last, or why it did not. */
export type ClusterView =
  | { readonly status: 'unknown' }
  | { readonly status: 'reached'; readonly state: ClusterSummary }
  | { readonly status: 'unreachable'; readonly message: string };

/** Opened by the hub itself: draw without animation. */
export const headless = signal(false);
export const capability = signal<Capability>({ ok: true });
export const node = signal<NodeSnapshot>(IDLE);
/** Tokens per second of this node, newest last, one value a second, at most 60. */
export const rateHistory = signal<readonly number[]>([]);
/** Bytes per second while the model downloads; null before two measurements. */
export const downloadRate = signal<number | null>(null);
export const cluster = signal<ClusterView>({ status: 'unknown' });
/** What the hub kept of the last ten minutes, oldest first. */
export const history = signal<readonly HistorySample[]>([]);

/** Whether a model of a person's own can take the GPU: the page lends it to no hub. */
export const canOpen = computed(() => {
  if (alone.value) return true;
  const { stage } = node.value;
  return stage === 'idle' || stage === 'refused' || stage === 'gone';
});
/** Files are held over the page. */
export const dragged = signal(false);
/** Why what was dropped was not opened. */
export const openProblem = signal<string | null>(null);

/** Role that the page's address asks for; null = the hub's. */
export const roleAsked = signal<Role | null>(null);
/** Name that a person gave this node; goes into the agent string that the hub shows. */
export const nodeName = signal('');
/** Link that makes another browser a node; has the join token in its fragment where the hub wants one. */
export const joinLink = signal<string | null>(null);

export const turns = signal<readonly ChatTurn[]>([]);
export const chatSettings = signal<ChatSettings>({ temperature: null, maxTokens: 256 });
/** The hub's API wants a key and `apiKey` is not it: ask for one. */
export const apiKeyWanted = signal(false);
export const apiKey = signal('');

export const chatBusy = computed(() => {
  const last = turns.value.at(-1);
  return last !== undefined && (last.status === 'waiting' || last.status === 'streaming');
});
