import { useLayoutEffect, useRef } from 'preact/hooks';
import { count } from './format.ts';
import { BLOCK_STATES, tally } from './pool-grid.ts';
import { PoolPainter } from './pool-painter.ts';
import { headless } from './state.ts';

/** `cached` blocks are free as well: their contents stay of use until somebody needs the room. */
const LEGEND = { free: 'free', cached: 'cached', used: 'in use', shared: 'shared' } as const;

/** A KV cache's block pool: one square a block, with counts for those who cannot see it. rank: null = the node has one pool. */
export function BlockPool({ map, rank }: { map: Uint8Array; rank: number | null }) {
  const counts = tally(map);
  const busy = counts.used + counts.shared;
  return (
    <div
      class="pool"
      data-testid="pool"
      data-rank={rank ?? undefined}
      data-free={counts.free}
      data-cached={counts.cached}
      data-used={counts.used}
      data-shared={counts.shared}
    >
      <h3>
        {rank === null ? 'KV blocks' : `KV blocks of rank ${rank}`}
        <span class="quiet">
          {count(busy)} of {count(map.length)} in use
        </span>
      </h3>
      {!headless.value && <Grid map={map} />}
      <ul class="legend">
        {BLOCK_STATES.map((state) => (
          <li key={state}>
            <span class="swatch" data-state={state} />
            {LEGEND[state]} <span class="number">{count(counts[state])}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Grid({ map }: { map: Uint8Array }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const painter = useRef<PoolPainter | null>(null);
  const newest = useRef(map);
  newest.current = map;
  useLayoutEffect(() => {
    if (!canvas.current) return;
    const made = new PoolPainter(canvas.current);
    painter.current = made;
    const repaint = () => {
      made.forget();
      made.paint(newest.current);
    };
    const widths = new ResizeObserver(repaint);
    widths.observe(canvas.current.parentElement ?? canvas.current);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', repaint);
    return () => {
      widths.disconnect();
      scheme.removeEventListener('change', repaint);
    };
  }, []);
  // The worker reads the map four times a second, so this draws no more often.
  useLayoutEffect(() => {
    if (!document.hidden) painter.current?.paint(map);
  }, [map]);
  return (
    <div class="pool-grid">
      <canvas ref={canvas} />
    </div>
  );
}
