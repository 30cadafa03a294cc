import type { RouterMode } from './mode.ts';

/** Any node, all alike. random: uniform in [0, 1). */
export function randomMode(random: () => number): RouterMode {
  return { choose: (options) => options[Math.floor(random() * options.length)] ?? options[0] };
}
