/** Ids 0 to capacity - 1 in a doubly linked list: the next block to hand out is at the front. All operations are O(1). */
export class FreeList {
  // A ring: the entry at `capacity` is before the front and after the back.
  readonly #next: Int32Array;
  readonly #prev: Int32Array;
  readonly #end: number;
  #size = 0;

  /** order: the ids from front to back, each at most once. */
  constructor(capacity: number, order: Iterable<number>) {
    this.#end = capacity;
    this.#next = new Int32Array(capacity + 1).fill(-1);
    this.#prev = new Int32Array(capacity + 1).fill(-1);
    this.#next[capacity] = capacity;
    this.#prev[capacity] = capacity;
    for (const id of order) this.pushBack(id);
  }

  get size(): number {
    return this.#size;
  }

  /** Takes the id at the front; -1 when the list is empty. */
  popFront(): number {
    if (this.#size === 0) return -1;
    const id = this.#next[this.#end]!;
    this.remove(id);
    return id;
  }

  /** id must not be in the list. */
  pushFront(id: number): void {
    this.#link(this.#end, id, this.#next[this.#end]!);
  }

  /** id must not be in the list. */
  pushBack(id: number): void {
    this.#link(this.#prev[this.#end]!, id, this.#end);
  }

  /** id must be in the list. */
  remove(id: number): void {
    const next = this.#next[id]!;
    const prev = this.#prev[id]!;
    if (next === -1) throw new Error(`block ${id} is not free`);
    this.#next[prev] = next;
    this.#prev[next] = prev;
    this.#next[id] = -1;
    this.#prev[id] = -1;
    this.#size--;
  }

  #link(prev: number, id: number, next: number): void {
    if (id < 0 || id >= this.#end || this.#next[id] !== -1) throw new Error(`block ${id} is free already or unknown`);
    this.#next[prev] = id;
    this.#prev[id] = prev;
    this.#next[id] = next;
    this.#prev[next] = id;
    this.#size++;
  }
}
