import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { EngineLife } from '../../../src/node/engine-life.ts';
import { listenerOf, Ranks } from '../../../src/node/ranks.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { WELCOME } from './fake-socket.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** `fails`: what the starts reject with, one after the other; null and beyond: an engine. */
function setUp(fails: (Error | null)[] = []) {
  const clock = new FakeClock();
  const engines: ScriptedEngine[] = [];
  const heard: string[] = [];
  const pauses: number[] = [];
  let starts = 0;
  const life = new EngineLife(
    {
      clock,
      startEngine: async (_offer, listener) => {
        const error = fails[starts++];
        if (error) throw error;
        const engine = new ScriptedEngine(listenerOf(listener, 0));
        engines.push(engine);
        return new Ranks([engine]);
      },
    },
    {
      tokens() {},
      kvEvents() {},
      prefilled() {},
      failed() {},
      adapter() {},
      progress() {},
      started: () => heard.push('started'),
      broken: (why, pauseMs) => {
        heard.push(`broken: ${why}`);
        pauses.push(pauseMs);
      },
      ended: ({ code, message }) => heard.push(`ended ${code}: ${message}`),
    },
  );
  life.start(WELCOME);
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 500) {
      clock.advance(Math.min(500, left));
      await settled();
    }
  };
  return { clock, engines, heard, pauses, life, pass, starts: () => starts };
}

describe('the life of an engine', () => {
  test('one that hangs is out of service after five asks without an answer, is closed, and started again', async () => {
    const { engines, heard, life, pass } = setUp();
    await pass(20_000);
    expect(heard).toEqual(['started']);
    engines[0]!.beating = false;
    await pass(10_000);
    expect(life.current?.engines).toEqual([engines[0]]);
    await pass(4000);
    expect(heard[1]).toMatch(/^broken: The engine hangs: its GPU answered nothing for 10 seconds/);
    expect(engines[0]!.closed).toBe(true);
    await pass(1000);
    expect(heard.at(-1)).toBe('started');
    expect(life.current?.engines).toEqual([engines[1]]);
  });

  test('one that is slow to answer, and computes, does not hang', async () => {
    const { engines, heard, pass } = setUp();
    await pass(500);
    engines[0]!.beating = false;
    for (let i = 0; i < 30; i++) {
      engines[0]!.step();
      await pass(2000);
    }
    expect(heard).toEqual(['started']);
  });

  test('a heartbeat that fails is a loss, and counts once though the engine tells it too', async () => {
    const { engines, heard, pass } = setUp();
    await pass(500);
    engines[0]!.closed = true;
    await pass(2000);
    engines[0]!.lose('The GPU device was lost.');
    expect(heard).toEqual(['started', 'broken: The engine is closed.']);
  });

  test('losses far from each other do not end it, and the pauses between grow until an engine was steady', async () => {
    const { engines, heard, pauses, pass } = setUp();
    await pass(500);
    for (let i = 0; i < 7; i++) {
      engines.at(-1)!.lose('lost');
      await pass(180_000);
    }
    expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 60].map((s) => s * 1000));
    await pass(600_000);
    engines.at(-1)!.lose('lost');
    expect(pauses.at(-1)).toBe(1000);
    expect(heard.some((line) => line.startsWith('ended'))).toBe(false);
  });

  test('a first start that fails ends it: another try would fail alike', async () => {
    const { heard, pass, starts } = setUp([new EngineError('no_adapter', 'There is no adapter.')]);
    await pass(60_000);
    expect(heard).toEqual(['ended no_adapter: There is no adapter.']);
    expect(starts()).toBe(1);
  });

  test('a rebuild waits for an adapter that is gone for a moment, and not for ever', async () => {
    const none = new EngineError('no_adapter', 'There is no adapter.');
    const back = setUp([null, none, none]);
    await back.pass(500);
    back.engines[0]!.lose('lost');
    await back.pass(60_000);
    expect(back.heard.at(-1)).toBe('started');
    const gone = setUp([null, ...Array.from({ length: 20 }, () => none)]);
    await gone.pass(500);
    gone.engines[0]!.lose('lost');
    await gone.pass(300_000);
    expect(gone.starts()).toBe(1 + 5);
    expect(gone.heard.at(-1)).toBe(
      'ended no_adapter: The engine was lost and could not be started again, 5 times in a row: There is no adapter.',
    );
  });

  test('a rebuild that fails its self-test ends it at once', async () => {
    const { heard, pass, engines, starts } = setUp([null, new EngineError('self_test', 'It computes wrong.')]);
    await pass(500);
    engines[0]!.lose('lost');
    await pass(60_000);
    expect(starts()).toBe(2);
    expect(heard.at(-1)).toMatch(/^ended self_test: The engine was lost and could not be started again: It computes/);
  });

  test('a device lost while it is rebuilt is the second loss', async () => {
    const { heard, pass, engines } = setUp([null, new EngineError('device_lost', 'The GPU device was lost.')]);
    await pass(500);
    engines[0]!.lose('lost');
    await pass(60_000);
    expect(heard.at(-1)).toMatch(/^ended device_lost: The GPU device was lost\. It is the second loss/);
  });

  test('closed, it starts nothing and asks nothing any more', async () => {
    const { clock, engines, heard, life, pass, starts } = setUp();
    await pass(500);
    engines[0]!.lose('lost');
    await life.close();
    await pass(60_000);
    expect(starts()).toBe(1);
    expect(heard).toEqual(['started', 'broken: lost']);
    expect(clock.pending).toBe(0);
  });
});
