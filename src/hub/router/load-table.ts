/** Rooms of a new table. */
const FIRST_ROOMS = 64;

/** What a choice among thousands of ranks reads of each: one column a figure, one slot a rank. */
export class LoadTable {
  sequences = new Float64Array(FIRST_ROOMS);
  prefillBlocks = new Float64Array(FIRST_ROOMS);
  decodeBlocks = new Float64Array(FIRST_ROOMS);
  /** Milliseconds that it takes for a block of a prompt, and for a token of a sequence; 0 = not measured, or too long ago. */
  prefillMs = new Float64Array(FIRST_ROOMS);
  decodeMs = new Float64Array(FIRST_ROOMS);
  /** Grows with each request given to any rank; 0 = never had one. */
  lastChosen = new Float64Array(FIRST_ROOMS);
  readonly #free: number[] = [];
  #used = 0;

  /** A slot of zeros. */
  take(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#used === this.sequences.length) this.#grow();
    this.#used += 1;
    return this.#used - 1;
  }

  release(slot: number): void {
    for (const name of COLUMNS) this[name][slot] = 0;
    this.#free.push(slot);
  }

  #grow(): void {
    for (const name of COLUMNS) {
      const grown = new Float64Array(2 * this[name].length);
      grown.set(this[name]);
      this[name] = grown;
    }
  }
}

const COLUMNS = ['sequences', 'prefillBlocks', 'decodeBlocks', 'prefillMs', 'decodeMs', 'lastChosen'] as const;
