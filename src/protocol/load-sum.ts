import type { Load } from './messages.ts';

export type LoadSum = Pick<Load, 'running' | 'waiting' | 'usedBlocks' | 'totalBlocks' | 'tokensPerSecond'>;

const FIELDS = ['running', 'waiting', 'usedBlocks', 'totalBlocks', 'tokensPerSecond'] as const;

/** What ranks have together. */
export function loadSum(loads: readonly LoadSum[]): LoadSum {
  const sum = { running: 0, waiting: 0, usedBlocks: 0, totalBlocks: 0, tokensPerSecond: 0 };
  for (const load of loads) for (const field of FIELDS) sum[field] += load[field];
  return sum;
}
