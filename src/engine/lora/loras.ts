import type { ModelFiles } from '../files/source.ts';

/** The LoRA adapters of a GPU, as its owner sees them. */
export interface Loras {
  /** How many there may be at once. */
  readonly capacity: number;
  /** Those that requests can have now. */
  readonly names: string[];
  /**
   * Loads an adapter in PEFT's layout; waits for one of the same name that is leaving, and where there is no place, for any that is. Throws
   * `EngineError` code `model` for one that does not fit the model or is there, `overloaded` where no place will be, `out_of_memory`.
   * Nothing of it stays then.
   */
  load(name: string, files: ModelFiles): Promise<void>;
  /** No request gets it from now on; those that run go on. Resolves when it is gone from the GPU; at once for a name that nobody knows. */
  unload(name: string): Promise<void>;
}
