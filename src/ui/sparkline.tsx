const HEIGHT = 32;

interface SparklineProps {
  /** One or more, drawn over each other, newest value last; null = nothing was measured, and the line has a hole. */
  readonly lines: readonly (readonly (number | null)[])[];
  /** Values from edge to edge; the newest is at the right one. */
  readonly slots: number;
  /** Value at the upper edge, where the lines' own peak shall not be. */
  readonly top?: number;
  readonly label: string;
}

/** Lines of small height without axes: a course, not numbers. The area under the first is filled. */
export function Sparkline({ lines, slots, top, label }: SparklineProps) {
  const peak = top ?? Math.max(Number.MIN_VALUE, ...lines.flat().map((value) => value ?? 0));
  const y = (value: number) => (HEIGHT - 1 - (Math.min(value, peak) / peak) * (HEIGHT - 3)).toFixed(1);
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${slots - 1} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {lines.map((values, line) =>
        runsOf(values, slots).map(({ first, run }) => {
          // One value alone is as wide as a slot.
          const wide = run.length > 1 ? run.map((value, i) => ({ at: first + i, value })) : alone(first, run[0]!);
          const points = wide.map(({ at, value }) => `${at},${y(value)}`);
          const ends = [wide[0]!.at, wide.at(-1)!.at];
          return (
            <>
              {line === 0 && (
                <path class="area" d={`M${ends[0]},${HEIGHT}L${points.join('L')}L${ends[1]},${HEIGHT}Z`} />
              )}
              <path class="line" data-line={line} d={`M${points.join('L')}`} />
            </>
          );
        }),
      )}
    </svg>
  );
}

const alone = (slot: number, value: number) => [slot - 0.5, slot + 0.5].map((at) => ({ at, value }));

/** The stretches of values without a hole, each with the slot of its first. */
function runsOf(values: readonly (number | null)[], slots: number): { first: number; run: number[] }[] {
  const runs: { first: number; run: number[] }[] = [];
  let open: { first: number; run: number[] } | null = null;
  for (const [i, value] of values.entries()) {
    if (value === null) {
      open = null;
      continue;
    }
    if (open === null) {
      open = { first: slots - values.length + i, run: [] };
      runs.push(open);
    }
    open.run.push(value);
  }
  return runs;
}
