import type { ModelFiles } from '../engine/files/source.ts';
import type { Loras } from '../engine/lora/loras.ts';
import type { LoraId, ModelOffer } from '../protocol/messages.ts';
import type { HubMessageOf, Link } from './link.ts';
import type { Ranks } from './ranks.ts';

/** Where the files of an adapter are read from; `signal` ends the reading. */
export type OpenLora = (offer: ModelOffer, signal: AbortSignal) => ModelFiles;

type Failure = LoraId & { readonly message: string };

/**
 * Brings the LoRA adapters of a node's engines to what the hub wants, one after the other, and tells the hub how far it is (rules A2 and
 * A3). What is wanted counts for the engines in service; others begin with none.
 */
export class LoraKeeper {
  private loras: Loras | null = null;
  private wanted: HubMessageOf<'loras'> | null = null;
  /** On the GPU: fingerprints by name. */
  private readonly loaded = new Map<string, string>();
  /** By name. */
  private readonly failed = new Map<string, Failure>();
  /** What is being loaded, and how to end the reading of its files. */
  private loading: { readonly offer: ModelOffer; readonly end: AbortController } | null = null;

  constructor(
    private readonly link: Pick<Link, 'send'>,
    private readonly open: OpenLora,
  ) {}

  /** From now on adapters are those of these engines, which have none; null: of none. */
  use(engines: Pick<Ranks, 'engines'> | null): void {
    this.loading?.end.abort();
    this.loras = engines?.engines[0].loras ?? null;
    this.wanted = null;
    this.loaded.clear();
    this.failed.clear();
  }

  /** The hub says which the node shall have: all of them, in this order. What failed is tried again. */
  want(message: HubMessageOf<'loras'>): void {
    this.wanted = message;
    this.failed.clear();
    if (this.loading && !this.isWanted(this.loading.offer)) this.loading.end.abort();
    for (const [name, fingerprint] of [...this.loaded]) {
      if (this.isWanted({ name, fingerprint })) continue;
      this.loaded.delete(name);
      // What runs on it goes on; the engine frees it after that.
      void this.loras?.unload(name);
    }
    this.tell();
    if (this.loading === null) void this.loadAll();
  }

  private async loadAll(): Promise<void> {
    for (let offer = this.next(); offer !== undefined; offer = this.next()) {
      await this.load(offer);
      this.tell();
    }
  }

  private next(): ModelOffer | undefined {
    return this.wanted?.adapters.find(({ name }) => !this.loaded.has(name) && !this.failed.has(name));
  }

  private async load(offer: ModelOffer): Promise<void> {
    const { name, fingerprint } = offer;
    const { loras } = this;
    const end = new AbortController();
    this.loading = { offer, end };
    try {
      if (loras === null) throw new Error('This node was started without room for LoRA adapters (max-loras is 0).');
      await loras.load(name, this.open(offer, end.signal));
      if (loras !== this.loras) return;
      if (this.isWanted(offer)) this.loaded.set(name, fingerprint);
      else void loras.unload(name);
    } catch (error) {
      // It was ended: it is tried again where it is wanted again.
      if (end.signal.aborted) return;
      const message = error instanceof Error ? error.message : String(error);
      this.failed.set(name, { name, fingerprint, message: message.slice(0, 4096) });
    } finally {
      this.loading = null;
    }
  }

  private tell(): void {
    if (this.wanted === null) return;
    const loaded = [...this.loaded].map(([name, fingerprint]) => ({ name, fingerprint }));
    const { revision } = this.wanted;
    this.link.send({ type: 'loras', revision, loaded, failed: [...this.failed.values()] });
  }

  private isWanted({ name, fingerprint }: LoraId): boolean {
    const found = this.wanted?.adapters.find((offer) => offer.name === name);
    return found?.fingerprint === fingerprint;
  }
}
