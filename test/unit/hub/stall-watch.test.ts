import { describe, expect, it } from 'vitest';
import { StallWatch } from '../../../src/hub/stall-watch.ts';
import { FakeClock } from '../../support/fake-clock.ts';

function setUp() {
  const clock = new FakeClock();
  const at: string[] = [];
  let steps = 0;
  const watch = new StallWatch({
    clock,
    limits: { stallMs: 5000, firstTokenStallMs: 30_000, requestIdleMs: 300_000 },
    steps: () => steps,
    stalled: () => at.push(`stalled ${clock.now()}`),
    idle: () => at.push(`idle ${clock.now()}`),
  });
  const step = () => {
    steps += 1;
  };
  return { clock, watch, at, step };
}

describe('G8: a node hangs', () => {
  it('when no token came for 5 seconds, however fast it was', () => {
    const { clock, watch, at } = setUp();
    for (let i = 0; i < 10; i++) {
      clock.advance(10);
      watch.token();
    }
    clock.advance(4999);
    expect(at).toEqual([]);
    clock.advance(1);
    expect(at).toEqual(['stalled 5100']);
  });

  it('when it pauses for 20 of its usual pauses, where it is slow', () => {
    const { clock, watch, at } = setUp();
    for (let i = 0; i < 10; i++) {
      clock.advance(1000);
      watch.token();
    }
    clock.advance(19_999);
    expect(at).toEqual([]);
    clock.advance(1);
    expect(at).toEqual(['stalled 30000']);
  });

  it('only after 30 seconds before its first token', () => {
    const { clock, at } = setUp();
    clock.advance(29_999);
    expect(at).toEqual([]);
    clock.advance(1);
    expect(at).toEqual(['stalled 30000']);
  });

  it('not while it computes steps', () => {
    const { clock, watch, at, step } = setUp();
    watch.token();
    for (let i = 0; i < 20; i++) {
      step();
      clock.advance(5000);
    }
    expect(at).toEqual([]);
    clock.advance(5000);
    expect(at).toEqual(['stalled 105000']);
  });

  it('a request without a token for 5 minutes is given up, whatever the node computes', () => {
    const { clock, watch, at, step } = setUp();
    watch.token();
    for (let i = 0; i < 100; i++) {
      step();
      clock.advance(5000);
    }
    expect(at).toEqual(['idle 300000']);
  });

  it('a watch that was stopped says nothing', () => {
    const { clock, watch, at } = setUp();
    watch.token();
    watch.stop();
    clock.advance(1_000_000);
    expect(at).toEqual([]);
  });
});
