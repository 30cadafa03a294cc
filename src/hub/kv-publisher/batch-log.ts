/** One published batch of a topic. */
export interface Batch {
  readonly topic: string;
  /** Grows by 1 with each batch of the topic, from 0. */
  readonly seq: number;
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** Topics whose next number is remembered; beyond that the one that was silent longest begins at 0 again. */
const MAX_TOPICS = 16_384;

/** The last batches of all topics, and the numbers of each. Bounded by steps and by bytes. */
export class BatchLog {
  readonly #next = new Map<string, number>();
  #kept: Batch[] = [];
  /** Offset of the oldest one kept: cutting an array is left for when half of it is gone. */
  #first = 0;
  #bytes = 0;

  constructor(
    private readonly maxSteps: number,
    private readonly maxBytes: number,
  ) {}

  /** Topics that had a batch. */
  get topics(): readonly string[] {
    return [...this.#next.keys()];
  }

  add(topic: string, payload: Uint8Array<ArrayBuffer>): Batch {
    const seq = this.#next.get(topic) ?? 0;
    this.#next.delete(topic);
    this.#next.set(topic, seq + 1);
    if (this.#next.size > MAX_TOPICS) this.#next.delete(this.#next.keys().next().value!);
    const batch = { topic, seq, payload };
    this.#kept.push(batch);
    this.#bytes += payload.length;
    while (this.#kept.length - this.#first > this.maxSteps || this.#bytes > this.maxBytes) this.#drop();
    return batch;
  }

  /** Batches of a topic that are still kept, from number `start` on, oldest first. */
  since(topic: string, start: bigint): Batch[] {
    return this.#kept.slice(this.#first).filter((batch) => batch.topic === topic && BigInt(batch.seq) >= start);
  }

  #drop(): void {
    const oldest = this.#kept[this.#first]!;
    this.#bytes -= oldest.payload.length;
    this.#first += 1;
    if (2 * this.#first < this.#kept.length) return;
    this.#kept = this.#kept.slice(this.#first);
    this.#first = 0;
  }
}
