/**
 * Which holders have which blocks. A block's hash is chained over all blocks before it, so a map from hash to holders is a radix
 * tree whose edges are one block long: walking a prompt's hashes goes down from the root. A block of one holder costs a map
 * entry and a set entry, no object of its own.
 */
export class KvTree {
  readonly #holders = new Map<bigint, number | Set<number>>();
  readonly #blocks = new Map<number, Set<bigint>>();

  /** Different blocks. */
  get size(): number {
    return this.#holders.size;
  }

  has(holder: number, hash: bigint): boolean {
    return this.#blocks.get(holder)?.has(hash) ?? false;
  }

  /** Blocks of one holder. */
  count(holder: number): number {
    return this.#blocks.get(holder)?.size ?? 0;
  }

  /** false = the holder has it already. */
  add(holder: number, hash: bigint): boolean {
    const blocks = this.#blocks.get(holder);
    if (blocks === undefined) this.#blocks.set(holder, new Set([hash]));
    else if (blocks.has(hash)) return false;
    else blocks.add(hash);
    const others = this.#holders.get(hash);
    if (others === undefined) this.#holders.set(hash, holder);
    else if (typeof others === 'number') this.#holders.set(hash, new Set([others, holder]));
    else others.add(holder);
    return true;
  }

  /** false = the holder does not have it. */
  remove(holder: number, hash: bigint): boolean {
    if (!this.#blocks.get(holder)?.delete(hash)) return false;
    this.#release(holder, hash);
    return true;
  }

  /** Forgets all blocks of a holder. */
  drop(holder: number): void {
    const blocks = this.#blocks.get(holder);
    this.#blocks.delete(holder);
    for (const hash of blocks ?? []) this.#release(holder, hash);
  }

  /**
   * How many leading blocks of a sequence each holder has; holders of none are left out. Asks for no hash behind the first that nobody
   * has. Takes for granted that whoever holds a block holds its parent (rule K4), so that sets of one size along a
   * path are the same set: a node that breaks the rule misleads the router about itself and no one else.
   */
  match(hashes: Iterable<bigint>): Map<number, number> {
    const overlaps = new Map<number, number>();
    let before: ReadonlySet<number> = new Set();
    let depth = 0;
    for (const hash of hashes) {
      const found = this.#holders.get(hash);
      if (found === undefined) break;
      const size = typeof found === 'number' ? 1 : found.size;
      if (depth === 0 || size !== before.size) {
        const now = typeof found === 'number' ? new Set([found]) : found;
        for (const holder of before) if (!now.has(holder)) overlaps.set(holder, depth);
        before = now;
      }
      depth += 1;
    }
    for (const holder of before) overlaps.set(holder, depth);
    return overlaps;
  }

  #release(holder: number, hash: bigint): void {
    const others = this.#holders.get(hash);
    if (typeof others === 'number' || others === undefined) {
      this.#holders.delete(hash);
      return;
    }
    others.delete(holder);
    const [last] = others;
    if (others.size === 1 && last !== undefined) this.#holders.set(hash, last);
  }
}
