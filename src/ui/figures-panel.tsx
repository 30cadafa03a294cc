import { type HistorySample, SAMPLE_MS } from '../protocol/cluster-history.ts';
import { count, milliseconds, percent, rate } from './format.ts';
import { Sparkline } from './sparkline.tsx';
import { headless, history } from './state.ts';

type Field = Exclude<keyof HistorySample, 'at'>;

interface Figure {
  readonly name: string;
  /** The first is the one that stands large. */
  readonly fields: readonly [Field, ...Field[]];
  /** Of the further fields, what stands before each. */
  readonly names: readonly string[];
  readonly text: (value: number) => string;
  readonly unit: string;
  /** Where the upper edge is not the peak. */
  readonly top?: number;
  /** Measured now and then: what came last stands until something newer comes. */
  readonly stands?: true;
}

const seconds = (value: number) => (value < 0.01 ? `${(value * 1000).toFixed(1)} ms` : milliseconds(value * 1000));
const share = (value: number) => percent(value, 1);

const FIGURES: readonly Figure[] = [
  { name: 'Requests', fields: ['requestsPerSecond'], names: [], text: rate, unit: 'a second' },
  {
    name: 'Tokens',
    fields: ['generatedTokensPerSecond', 'promptTokensPerSecond'],
    names: ['prompts'],
    text: rate,
    unit: 'a second',
  },
  {
    name: 'First token',
    fields: ['firstTokenP50', 'firstTokenP99'],
    names: ['p99'],
    text: seconds,
    unit: '',
    stands: true,
  },
  {
    name: 'Between tokens',
    fields: ['interTokenP50', 'interTokenP99'],
    names: ['p99'],
    text: seconds,
    unit: '',
    stands: true,
  },
  { name: 'Sequences', fields: ['running', 'waiting'], names: ['waiting'], text: count, unit: 'running' },
  { name: 'KV cache in use', fields: ['kvUsage'], names: [], text: share, unit: '', top: 1 },
  {
    name: 'Prefix cache hits',
    fields: ['cacheHitRate'],
    names: [],
    text: share,
    unit: 'of prompts',
    top: 1,
    stands: true,
  },
];

/** A hub that just started draws its first samples this wide: a minute. */
const LEAST_SLOTS = 60_000 / SAMPLE_MS;

/** What the cluster did over the last ten minutes at most, as the hub kept it. */
export function FiguresPanel() {
  const samples = history.value;
  if (headless.value || samples.length < 2) return null;
  const slots = Math.max(LEAST_SLOTS, samples.length);
  const minutes = Math.round((slots * SAMPLE_MS) / 60_000);
  const span = minutes === 1 ? 'Last minute' : `Last ${minutes} minutes`;
  return (
    <section class="panel history" aria-labelledby="figures-title" data-testid="figures">
      <h2 id="figures-title">{span}</h2>
      <div class="tiles">
        {FIGURES.map((figure) => (
          <Tile key={figure.name} of={figure} samples={samples} slots={slots} />
        ))}
      </div>
    </section>
  );
}

function Tile({ of, samples, slots }: { of: Figure; samples: readonly HistorySample[]; slots: number }) {
  const { name, fields, names, text, unit, top, stands } = of;
  const measured = (sample: HistorySample) => !stands || fields.some((field) => sample[field] !== null);
  const last = samples.findLast(measured);
  const shown = (field: Field) => {
    const value = last?.[field] ?? null;
    return value === null ? '–' : text(value);
  };
  const [main, ...others] = fields;
  const more = others.map((field, i) => `${names[i]} ${shown(field)}`);
  return (
    <div class="tile" data-testid={`figure-${main}`} data-value={last?.[main] ?? ''}>
      <h3>{name}</h3>
      <p class="figure">
        <b>{shown(main)}</b> <span>{[unit, ...more].filter((part) => part !== '').join(' · ')}</span>
      </p>
      <Sparkline
        lines={fields.map((field) => samples.map((sample) => sample[field]))}
        slots={slots}
        label={`${name} over time`}
        {...(top === undefined ? {} : { top })}
      />
    </div>
  );
}
