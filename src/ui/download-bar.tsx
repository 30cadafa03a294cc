import { bytes, duration, percent } from './format.ts';
import { downloadRate, node } from './state.ts';

/** Bytes of the model: how many of how many, how fast, how long it still takes. */
export function DownloadBar() {
  const { progress } = node.value;
  if (!progress) return null;
  const { loadedBytes, totalBytes } = progress;
  const rate = downloadRate.value;
  const left = rate !== null && rate > 0 ? (totalBytes - loadedBytes) / rate : null;
  return (
    <div class="download" data-testid="download">
      <progress aria-label="Model downloaded" value={loadedBytes} max={Math.max(1, totalBytes)} />
      <p class="figures">
        <span>
          {bytes(loadedBytes)} of {bytes(totalBytes)} ({percent(loadedBytes, totalBytes)})
        </span>
        {rate !== null && <span>{bytes(rate)}/s</span>}
        {left !== null && <span>{duration(left)} left</span>}
      </p>
    </div>
  );
}
