import { expect, test } from 'vitest';
import { HappeningLog } from '../../../src/hub/happenings.ts';
import { MAX_HAPPENINGS } from '../../../src/protocol/cluster-state.ts';

const plain = { kind: 'routed' as const, model: 'm', node: 'a', rank: 0, prefillNode: null, attempt: 0 };
const routed = (request: number) => ({ ...plain, request, overlapBlocks: 0, promptBlocks: 1 });
const moved = (request: number, bytes: number) => ({
  ...{ kind: 'transferred' as const, model: 'm', request, from: 'p', to: 'd', transport: 'relay' as const },
  ...{ blocks: 2, bytes, milliseconds: 1 },
});

test('the log keeps the last of each kind, in their order, and all their totals', () => {
  let now = 0;
  const log = new HappeningLog(() => ++now);
  log.add(moved(1, 100));
  for (let i = 0; i < 10 * MAX_HAPPENINGS; i++) log.add(routed(2 + i));
  log.add(moved(9, 50));
  const last = log.last();
  expect(last).toHaveLength(MAX_HAPPENINGS + 2);
  expect(last[0]).toMatchObject({ kind: 'transferred', request: 1, number: 1, at: 1 });
  expect(last[1]).toMatchObject({ kind: 'routed', number: 9 * MAX_HAPPENINGS + 2 });
  expect(last.at(-1)).toMatchObject({ kind: 'transferred', request: 9, number: 10 * MAX_HAPPENINGS + 2 });
  expect(log.totals()).toEqual({ transfers: 2, blocks: 4, bytes: 150, fallBacks: 0 });
  for (let i = 0; i < 2 * MAX_HAPPENINGS; i++) log.add(moved(1, 1));
  expect(log.last().filter(({ kind }) => kind === 'transferred')).toHaveLength(MAX_HAPPENINGS);
  expect(log.totals().transfers).toBe(2 + 2 * MAX_HAPPENINGS);
});
