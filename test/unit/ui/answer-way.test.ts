import { describe, expect, test } from 'vitest';
import { AnswerNvext, wayOf, wayWith } from '../../../src/ui/answer-way.ts';

const HEADERS = new Headers({ 'x-quire-node': 'd', 'x-quire-dp-rank': '1', 'x-quire-overlap-blocks': '3' });
const migration = (from: string, to: string) => ({
  ...{ attempt: 1, from_node: from, to_node: to, completion_tokens: 41, numerics_changed: false },
});

describe('the way of an answer', () => {
  test('is the node of its headers, and none where no node is named', () => {
    expect(wayOf(HEADERS)).toEqual({ node: 'd', rank: 1, overlapBlocks: 3, transfer: null, migrations: [] });
    expect(wayOf(new Headers())).toBeNull();
    expect(wayWith(null, AnswerNvext.parse({ migrations: [migration('a', 'b')] }))).toBeNull();
  });

  test('grows with each migration, and ends at the last node', () => {
    const once = wayWith(wayOf(HEADERS), AnswerNvext.parse({ migrations: [migration('d', 'e')] }));
    const twice = wayWith(once, AnswerNvext.parse({ migrations: [migration('e', 'f')] }));
    expect(twice).toMatchObject({ node: 'f', migrations: [{ from_node: 'd' }, { from_node: 'e', to_node: 'f' }] });
    expect(wayWith(twice, null)).toBe(twice);
  });

  test('has the transfer of the prompt, or why it failed', () => {
    const moved = { prefill_node: 'p', transport: 'relay', blocks: 6, bytes: 6144, milliseconds: 84 };
    expect(wayWith(wayOf(HEADERS), AnswerNvext.parse({ kv_transfer: moved }))?.transfer).toEqual(moved);
    const failed = { prefill_node: 'p', transport: null, fallback: 'stalled', message: 'Too slow.' };
    expect(wayWith(wayOf(HEADERS), AnswerNvext.parse({ kv_transfer: failed }))?.transfer).toEqual(failed);
  });
});
