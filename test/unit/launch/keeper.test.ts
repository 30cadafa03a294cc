import { describe, expect, it } from 'vitest';
import { Keeper } from '../../../src/hub/launch/keeper.ts';
import { FakeClock } from '../../support/fake-clock.ts';

function setUp() {
  const clock = new FakeClock();
  const said: string[] = [];
  const ends: ((why: string) => void)[] = [];
  let broken = false;
  const start = async () => {
    if (broken) throw new Error('no memory');
    return { ended: new Promise<string>((resolve) => ends.push(resolve)) };
  };
  const keeper = new Keeper({ name: 'Node 1', start, clock, say: (line) => said.push(line) });
  const settle = () => new Promise((resolve) => setTimeout(resolve));
  return {
    keeper,
    said,
    starts: () => ends.length,
    breakStart: (to: boolean) => {
      broken = to;
    },
    async die() {
      ends.at(-1)?.('crashed');
      await settle();
    },
    async pass(ms: number) {
      clock.advance(ms);
      await settle();
    },
  };
}

describe('a keeper', () => {
  it('starts again what ends, with pauses that double while it goes on ending', async () => {
    const { keeper, said, starts, die, pass } = setUp();
    await keeper.begin();
    for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
      const before = starts();
      await die();
      expect(said.at(-1)).toBe(`Node 1 crashed. It is started again in ${seconds} s.`);
      await pass(seconds * 1000 - 1);
      expect(starts()).toBe(before);
      await pass(1);
      expect(starts()).toBe(before + 1);
    }
  });

  it('begins with the first pause again after a minute without an end', async () => {
    const { keeper, said, die, pass } = setUp();
    await keeper.begin();
    await die();
    await pass(1000);
    await pass(60_000);
    await die();
    expect(said.at(-1)).toContain('in 1 s');
  });

  it('goes on after a start that fails, but not after the first one', async () => {
    const { keeper, said, starts, breakStart, die, pass } = setUp();
    breakStart(true);
    await expect(keeper.begin()).rejects.toThrow('no memory');
    await pass(100_000);
    expect(said).toEqual([]);
    breakStart(false);
    await keeper.begin();
    await die();
    breakStart(true);
    await pass(1000);
    expect(said.at(-1)).toBe('Node 1 did not start (no memory). It is started again in 2 s.');
    breakStart(false);
    await pass(2000);
    expect(starts()).toBe(2);
  });

  it('starts nothing once it was stopped', async () => {
    const { keeper, said, starts, die, pass } = setUp();
    await keeper.begin();
    await die();
    keeper.stop();
    await pass(100_000);
    expect(starts()).toBe(1);
    await die();
    expect(said).toHaveLength(1);
  });
});
