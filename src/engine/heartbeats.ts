import type { EngineError } from './api.ts';

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Callers who want to know whether the engine lives: each waits for a turn of the loop, then for the GPU. */
export class Heartbeats {
  /** Wait for a turn. */
  private waiting: Waiting[] = [];
  /** Wait for the GPU. */
  private readonly asked = new Set<Waiting>();
  private error: EngineError | null = null;

  /** roundtrip: resolves when the GPU has done work submitted now. */
  constructor(private readonly roundtrip: () => Promise<void>) {}

  next(): Promise<void> {
    if (this.error) return Promise.reject(this.error);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  /** The loop made a turn. */
  beat(): void {
    if (this.waiting.length === 0) return;
    const beating = this.waiting;
    this.waiting = [];
    for (const each of beating) this.asked.add(each);
    const settle = (settleOne: (each: Waiting) => void) => {
      for (const each of beating) if (this.asked.delete(each)) settleOne(each);
    };
    this.roundtrip().then(
      () => settle(({ resolve }) => resolve()),
      (cause) => settle(({ reject }) => reject(cause)),
    );
  }

  /** There will be no more: all who wait, and all who come, hear why. */
  end(error: EngineError): void {
    this.error ??= error;
    for (const { reject } of [...this.waiting.splice(0), ...this.asked]) reject(this.error);
    this.asked.clear();
  }
}
