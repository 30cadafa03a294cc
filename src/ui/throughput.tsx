import type { LoadSum } from '../protocol/load-sum.ts';
import { count, rate } from './format.ts';
import { Sparkline } from './sparkline.tsx';
import { headless, rateHistory } from './state.ts';

/** Tokens per second now and over the last minute, and the sequences behind them. */
export function Throughput({ load }: { load: LoadSum }) {
  return (
    <div class="throughput">
      <p class="figure main">
        <b data-testid="tokens-per-second">{rate(load.tokensPerSecond)}</b> <span>tokens/s</span>
      </p>
      {headless.value ? <span /> : <Course of={rateHistory.value} />}
      <p class="figure">
        <b data-testid="running">{count(load.running)}</b> <span>running</span>
      </p>
      <p class="figure">
        <b data-testid="waiting">{count(load.waiting)}</b> <span>waiting</span>
      </p>
    </div>
  );
}

/** One value a second. */
const SECONDS = 60;

function Course({ of }: { of: readonly number[] }) {
  const peak = of.length > 0 ? `, at most ${rate(Math.max(...of))}` : '';
  return <Sparkline lines={[of]} slots={SECONDS} label={`Tokens per second of the last minute${peak}`} />;
}
