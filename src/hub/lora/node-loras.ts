import type { LoraId, NodeMessage } from '../../protocol/messages.ts';

/** The LoRA adapters of one node, as it tells them (rule A3). */
export class NodeLoras {
  /** Revision of the hub's adapters that it was told last; null: of none since it registered. */
  #revision: number | null = null;
  /** Fingerprints by name. */
  #loaded: ReadonlyMap<string, string> = new Map();
  #failed: ReadonlyMap<string, LoraId & { readonly message: string }> = new Map();

  get names(): string[] {
    return [...this.#loaded.keys()];
  }

  knows(revision: number): boolean {
    return this.#revision === revision;
  }

  /** Whether it says to have this very one, and shall have it. */
  has({ name, fingerprint }: LoraId): boolean {
    return this.#loaded.get(name) === fingerprint;
  }

  /** Why it cannot load it; null where it does not say so. */
  failure({ name, fingerprint }: LoraId): string | null {
    const failed = this.#failed.get(name);
    return failed?.fingerprint === fingerprint ? failed.message : null;
  }

  /** It is told which it shall have: the others it has no more, and those that failed it tries again. */
  tell(revision: number, adapters: readonly LoraId[]): void {
    this.#revision = revision;
    this.#loaded = new Map(adapters.filter((id) => this.has(id)).map(({ name, fingerprint }) => [name, fingerprint]));
    this.#failed = new Map();
  }

  /** What it says of an older revision came too late. */
  set({ revision, loaded, failed }: Extract<NodeMessage, { type: 'loras' }>): void {
    if (!this.knows(revision)) return;
    this.#loaded = new Map(loaded.map(({ name, fingerprint }) => [name, fingerprint]));
    this.#failed = new Map(failed.map((failure) => [failure.name, failure]));
  }

  /** Its engines are other ones now, or none. */
  forget(): void {
    this.#revision = null;
    this.#loaded = new Map();
    this.#failed = new Map();
  }
}
