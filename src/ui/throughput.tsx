import type { LoadSum } from '../protocol/load-sum.ts';
import { count, rate } from './format.ts';
import { headless, rateHistory } from './state.ts';

/** Tokens per second now and over the last minute, and the sequences behind them. */
export function Throughput({ load }: { load: LoadSum }) {
  return (
    <div class="throughput">
      <p class="figure main">
        <b data-testid="tokens-per-second">{rate(load.tokensPerSecond)}</b> <span>tokens/s</span>
      </p>
      {headless.value ? <span /> : <Sparkline values={rateHistory.value} />}
      <p class="figure">
        <b data-testid="running">{count(load.running)}</b> <span>running</span>
      </p>
      <p class="figure">
        <b data-testid="waiting">{count(load.waiting)}</b> <span>waiting</span>
      </p>
    </div>
  );
}

const SECONDS = 60;
const HEIGHT = 32;

/** One value a second, the newest at the right edge. */
function Sparkline({ values }: { values: readonly number[] }) {
  const top = Math.max(1, ...values);
  const first = SECONDS - values.length;
  const points = values.map((value, i) => `${first + i},${(HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1)}`);
  const peak = values.length > 0 ? `, at most ${rate(Math.max(...values))}` : '';
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${SECONDS - 1} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`Tokens per second of the last minute${peak}`}
    >
      {points.length > 1 && (
        <>
          <path class="area" d={`M${first},${HEIGHT}L${points.join('L')}L${SECONDS - 1},${HEIGHT}Z`} />
          <path class="line" d={`M${points.join('L')}`} />
        </>
      )}
    </svg>
  );
}
