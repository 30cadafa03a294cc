import type { Clock } from '../../protocol/clock.ts';
import type { TransportName } from '../../protocol/transfer.ts';
import { Rate } from '../router/rate.ts';

/** How long a pair of nodes rests after a failed transfer; twice as long after each further one. */
const REST_MS = 10_000;
const LONGEST_REST_MS = 300_000;

interface Pair {
  /** Blocks per millisecond. */
  readonly rates: Map<TransportName, Rate>;
  /** Openings per millisecond of opening. */
  readonly opening: Rate;
  faults: number;
  restsUntil: number;
}

/** What was measured between a prefill node and a decode node, by their ids. */
export class Pairs {
  readonly #pairs = new Map<string, Map<string, Pair>>();

  constructor(private readonly clock: Pick<Clock, 'now'>) {}

  /** Whether a transfer may be tried now. */
  usable(prefill: string, decode: string): boolean {
    return (this.#known(prefill, decode)?.restsUntil ?? Number.NEGATIVE_INFINITY) <= this.clock.now();
  }

  /** Blocks per millisecond by the first of the transports that was measured; null = by none. */
  transferRate(prefill: string, decode: string, transports: readonly TransportName[]): number | null {
    const pair = this.#known(prefill, decode);
    for (const transport of transports) {
      const rate = pair?.rates.get(transport)?.at(this.clock.now()) ?? null;
      if (rate !== null) return rate;
    }
    return null;
  }

  /** Milliseconds that opening a channel takes; null = not measured. */
  openMs(prefill: string, decode: string): number | null {
    const rate = this.#known(prefill, decode)?.opening.at(this.clock.now()) ?? null;
    return rate === null ? null : 1 / rate;
  }

  opened(prefill: string, decode: string, ms: number): void {
    this.#of(prefill, decode).opening.sample(1, ms, this.clock.now());
  }

  done(prefill: string, decode: string, transport: TransportName, blocks: number, ms: number): void {
    const pair = this.#of(prefill, decode);
    const rate = pair.rates.get(transport) ?? new Rate();
    pair.rates.set(transport, rate);
    rate.sample(blocks, ms, this.clock.now());
    pair.faults = 0;
  }

  failed(prefill: string, decode: string): void {
    const pair = this.#of(prefill, decode);
    pair.restsUntil = this.clock.now() + Math.min(LONGEST_REST_MS, REST_MS * 2 ** pair.faults);
    pair.faults += 1;
  }

  /** The node left. */
  forget(node: string): void {
    this.#pairs.delete(node);
    for (const decodes of this.#pairs.values()) decodes.delete(node);
  }

  #known(prefill: string, decode: string): Pair | undefined {
    return this.#pairs.get(prefill)?.get(decode);
  }

  #of(prefill: string, decode: string): Pair {
    const decodes = this.#pairs.get(prefill) ?? new Map<string, Pair>();
    this.#pairs.set(prefill, decodes);
    const pair = decodes.get(decode) ?? {
      rates: new Map<TransportName, Rate>(),
      opening: new Rate(),
      faults: 0,
      restsUntil: Number.NEGATIVE_INFINITY,
    };
    decodes.set(decode, pair);
    return pair;
  }
}
