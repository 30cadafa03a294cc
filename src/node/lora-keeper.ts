import type { ModelFiles } from '../engine/files/source.ts';
import type { Loras } from '../engine/lora/loras.ts';
import type { LoraId, ModelOffer } from '../protocol/messages.ts';
import type { Link } from './link.ts';
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
  private wanted: readonly ModelOffer[] = [];
  /** On the GPU, by name. */
  private readonly loaded = new Map<string, string>();
  private readonly failed = new Map<string, Failure>();
  private working = false;
  /** There is a wish that was not looked at yet. */
  private asked = false;
  /** Ends what is being loaded for engines, or for a wish, that are no more. */
  private current = new AbortController();

  constructor(
    private readonly link: Pick<Link, 'send'>,
    private readonly open: OpenLora,
  ) {}

  /** From now on adapters are those of these engines, which have none; null: of none. */
  use(engines: Pick<Ranks, 'engines'> | null): void {
    this.current.abort();
    this.loras = engines?.engines[0].loras ?? null;
    this.wanted = [];
    this.loaded.clear();
    this.failed.clear();
  }

  /** The hub says which the node shall have: all of them, in this order. */
  want(adapters: readonly ModelOffer[]): void {
    this.wanted = adapters;
    this.asked = true;
    this.current.abort();
    // What failed is tried again.
    this.failed.clear();
    if (!this.working) void this.work();
  }

  private async work(): Promise<void> {
    this.working = true;
    // After each adapter the wish may be another one, or the engines.
    for (let more = true; more; ) {
      this.asked = false;
      this.dropUnwanted();
      this.tell();
      more = (await this.loadNext()) || this.asked;
    }
    this.working = false;
  }

  /** What runs on them goes on; the engine frees them after it. */
  private dropUnwanted(): void {
    for (const [name, fingerprint] of [...this.loaded]) {
      if (this.isWanted(name, fingerprint)) continue;
      this.loaded.delete(name);
      void this.loras?.unload(name);
    }
  }

  /** False where all that is wanted is there or has failed. */
  private async loadNext(): Promise<boolean> {
    const next = this.wanted.find(({ name }) => !this.loaded.has(name) && !this.failed.has(name));
    if (next === undefined) return false;
    const { name, fingerprint } = next;
    const { loras } = this;
    this.current = new AbortController();
    const { signal } = this.current;
    try {
      if (loras === null) throw new Error('This node was started without room for LoRA adapters (max-loras is 0).');
      await loras.load(name, this.open(next, signal));
      if (loras === this.loras) this.loaded.set(name, fingerprint);
    } catch (error) {
      // Ended by a newer wish: it is tried again if that one wants it too.
      const message = error instanceof Error ? error.message : String(error);
      if (!signal.aborted && loras === this.loras)
        this.failed.set(name, { name, fingerprint, message: message.slice(0, 4096) });
    }
    return true;
  }

  private tell(): void {
    const loaded = [...this.loaded].map(([name, fingerprint]) => ({ name, fingerprint }));
    this.link.send({ type: 'loras', loaded, failed: [...this.failed.values()] });
  }

  private isWanted(name: string, fingerprint: string): boolean {
    return this.wanted.some((offer) => offer.name === name && offer.fingerprint === fingerprint);
  }
}
