import { Histogram, type Registry } from 'prom-client';

/** Counts of one series: `counts[i]` observations were at most `bounds[i]`, the last more than all of them. */
export class HistogramSeries {
  readonly counts: Float64Array;
  sum = 0;

  constructor(readonly bounds: readonly number[]) {
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    let at = 0;
    while (at < this.bounds.length && value > this.bounds[at]!) at++;
    this.counts[at]! += 1;
    this.sum += value;
  }
}

/**
 * A histogram with a series for each model, for what is told at every token: prom-client's own looks labels up, checks and hashes them at each
 * observation. It can be exported under several names: the same thing has one in Dynamo and one in vLLM.
 */
export class LiveHistogram {
  readonly #series = new Map<string, HistogramSeries>();

  constructor(private readonly bounds: readonly number[]) {}

  of(model: string): HistogramSeries {
    const known = this.#series.get(model);
    if (known !== undefined) return known;
    const fresh = new HistogramSeries(this.bounds);
    this.#series.set(model, fresh);
    return fresh;
  }

  /** Counts of all models together. */
  total(): Float64Array {
    const total = new Float64Array(this.bounds.length + 1);
    for (const { counts } of this.#series.values()) for (const [at, count] of counts.entries()) total[at]! += count;
    return total;
  }

  exportAs(registry: Registry, name: string, help: string, label: 'model' | 'model_name'): void {
    registry.registerMetric(
      new Exported({ name, help, buckets: [...this.bounds], registers: [] }, label, this.#series),
    );
  }
}

class Exported extends Histogram {
  constructor(
    private readonly config: ConstructorParameters<typeof Histogram>[0],
    private readonly label: string,
    private readonly series: ReadonlyMap<string, HistogramSeries>,
  ) {
    super(config);
  }

  /** What the registry asks a histogram for its text; `get` asks it too. Not in prom-client's types. */
  async getForPromString() {
    const { name, help } = this.config;
    const values = [...this.series].flatMap(([model, series]) => valuesOf(name, { [this.label]: model }, series));
    return { name, help, type: 'histogram', values, aggregator: 'sum' };
  }
}

function valuesOf(name: string, labels: Record<string, string>, { bounds, counts, sum }: HistogramSeries) {
  let below = 0;
  const buckets = [...bounds, '+Inf'].map((le, at) => {
    below += counts[at]!;
    return { labels: { le, ...labels }, value: below, metricName: `${name}_bucket` };
  });
  return [
    ...buckets,
    { labels, value: sum, metricName: `${name}_sum` },
    { labels, value: below, metricName: `${name}_count` },
  ];
}

/**
 * The value that `share` of the observations (0 to 1) stay below, within its bucket by interpolation, as Prometheus' `histogram_quantile`;
 * null where there are none. `counts` as those of a `HistogramSeries`.
 */
export function quantileOf(bounds: readonly number[], counts: ArrayLike<number>, share: number): number | null {
  const all = Array.from(counts);
  const total = all.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let below = 0;
  for (const [at, upper] of bounds.entries()) {
    const here = all[at] ?? 0;
    const lower = at === 0 ? 0 : bounds[at - 1]!;
    if (here > 0 && below + here >= share * total) return lower + (upper - lower) * ((share * total - below) / here);
    below += here;
  }
  return bounds.at(-1) ?? null;
}
