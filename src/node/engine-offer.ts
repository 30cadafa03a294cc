import type { Card } from '../protocol/messages.ts';
import type { Welcome } from './link.ts';
import type { Ranks, RanksListener } from './ranks.ts';

/** What a node is told while its engine starts. */
export interface StartListener {
  /** Something new is going on, e.g. a file loads; bytes are of the whole model. */
  progress(stage: 'downloading' | 'warming', detail: string, loadedBytes: number, totalBytes: number): void;
  adapter(adapter: Card['adapter']): void;
}

/** What an engine is made for. */
export type EngineOffer = Pick<Welcome, 'model' | 'blockSize' | 'hashAlgo' | 'options'>;

/** What of it an engine is told: not where its files come from. */
export type EngineIdentity = Omit<EngineOffer, 'model'> & {
  readonly model: Pick<EngineOffer['model'], 'name' | 'fingerprint' | 'pooler'>;
};

/** Makes the engines for what the hub offers. Rejects with the reason; `signal` ends the start early. */
export type StartEngine = (
  offer: EngineOffer,
  listener: RanksListener & StartListener,
  signal: AbortSignal,
) => Promise<Ranks>;
