import type { Clock } from '../protocol/clock.ts';
import { type HistorySample, MAX_SAMPLES, SAMPLE_MS } from '../protocol/cluster-history.ts';
import type { LoadSum } from '../protocol/load-sum.ts';
import { quantileOf } from './live-histogram.ts';
import { type HubMetrics, SECONDS, SHORT_SECONDS, type Totals } from './metrics.ts';

export interface HistoryOptions {
  readonly metrics: Pick<HubMetrics, 'firstToken' | 'interToken' | 'totals'>;
  /** Of all nodes. */
  readonly load: () => LoadSum;
  readonly clock: Clock;
  /** Unix milliseconds. */
  readonly now: () => number;
}

interface Look {
  readonly at: number;
  readonly totals: Totals;
  readonly first: Float64Array;
  readonly inter: Float64Array;
}

/** The last ten minutes of the cluster, for a dashboard without any other server. It looks every five seconds from its making to `stop`. */
export class History {
  readonly #options: HistoryOptions;
  readonly #samples: HistorySample[] = [];
  #last: Look;
  #stop = () => {};

  constructor(options: HistoryOptions) {
    this.#options = options;
    this.#last = this.#look();
    this.#again();
  }

  /** Oldest first. */
  samples(): readonly HistorySample[] {
    return this.#samples;
  }

  stop(): void {
    this.#stop();
  }

  #again(): void {
    this.#stop = this.#options.clock.after(SAMPLE_MS, () => {
      this.#again();
      const now = this.#look();
      this.#samples.push(sampleOf(this.#last, now, this.#options.load()));
      if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
      this.#last = now;
    });
  }

  #look(): Look {
    const { metrics, now } = this.#options;
    const { firstToken, interToken } = metrics;
    return { at: now(), totals: metrics.totals(), first: firstToken.total(), inter: interToken.total() };
  }
}

function sampleOf(before: Look, now: Look, load: LoadSum): HistorySample {
  const grown = (field: keyof Totals) => now.totals[field] - before.totals[field];
  // Not what the timer was set to: a busy process is late.
  const perSecond = (field: keyof Totals) => (grown(field) * 1000) / Math.max(1, now.at - before.at);
  const first = now.first.map((count, at) => count - before.first[at]!);
  const inter = now.inter.map((count, at) => count - before.inter[at]!);
  const prompt = grown('promptTokens');
  return {
    at: now.at,
    requestsPerSecond: perSecond('requests'),
    promptTokensPerSecond: perSecond('promptTokens'),
    generatedTokensPerSecond: perSecond('generatedTokens'),
    firstTokenP50: quantileOf(SECONDS, first, 0.5),
    firstTokenP99: quantileOf(SECONDS, first, 0.99),
    interTokenP50: quantileOf(SHORT_SECONDS, inter, 0.5),
    interTokenP99: quantileOf(SHORT_SECONDS, inter, 0.99),
    cacheHitRate: prompt === 0 ? null : grown('cachedTokens') / prompt,
    kvUsage: load.totalBlocks === 0 ? null : load.usedBlocks / load.totalBlocks,
    running: load.running,
    waiting: load.waiting,
  };
}
