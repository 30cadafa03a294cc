import type { LoraId, NodeMessage } from '../../protocol/messages.ts';

/** The LoRA adapters of one node, as it tells them (rule A3). */
export class NodeLoras {
  /** Revision of the hub's adapters that it was told last; -1 since it registered: none. */
  told = -1;
  /** Fingerprints by name. */
  #loaded: ReadonlyMap<string, string> = new Map();
  #failed: ReadonlyMap<string, LoraId & { readonly message: string }> = new Map();

  get names(): string[] {
    return [...this.#loaded.keys()];
  }

  /** Whether it says to have this very one. */
  has({ name, fingerprint }: LoraId): boolean {
    return this.#loaded.get(name) === fingerprint;
  }

  /** Why it cannot load it; null where it does not say so. */
  failure({ name, fingerprint }: LoraId): string | null {
    const failed = this.#failed.get(name);
    return failed?.fingerprint === fingerprint ? failed.message : null;
  }

  /** What it says counts once it was told something. Adapters beside those of the hub are of no use to anyone. */
  set({ loaded, failed }: Extract<NodeMessage, { type: 'loras' }>): void {
    if (this.told < 0) return;
    this.#loaded = new Map(loaded.map(({ name, fingerprint }) => [name, fingerprint]));
    this.#failed = new Map(failed.map((failure) => [failure.name, failure]));
  }

  /** Its engines are other ones now, or none. */
  forget(): void {
    this.told = -1;
    this.#loaded = new Map();
    this.#failed = new Map();
  }
}
