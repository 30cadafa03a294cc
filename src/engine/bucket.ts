/** Smallest power of two that holds `rows`. */
export function bucketOf(rows: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, rows)));
}
