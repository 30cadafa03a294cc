import { describe, expect, test } from 'vitest';
import { EngineError, type EngineListener } from '../../../src/engine/api.ts';
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
  const bed = { refusals: [] as EngineError[], hang: Promise.resolve(), lost: null as EngineError | null };
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
        return ranksOf(engine, listenerOf(listener, 0));
      },
    },
    {
      tokens() {},
      kvEvents() {},
      prefilled() {},
      failed() {},
      adapter() {},
      progress: (stage, detail) => heard.push(`${stage}: ${detail.split(':')[0]}`),
      asleep: (detail) => heard.push(`asleep ${detail}`),
      started: () => heard.push('started'),
      broken: (why, pauseMs) => {
        heard.push(`broken: ${why}`);
        pauses.push(pauseMs);
      },
      ended: ({ code, message }) => heard.push(`ended ${code}: ${message}`),
    },
  );
  /** What falls asleep with `engine`; whoever wakes up is another one. */
  const ranksOf = (engine: ScriptedEngine, listener: EngineListener): Ranks =>
    new Ranks([engine], 0, async (level) => {
      const refusal = bed.refusals.shift();
      if (refusal) throw refusal;
      await bed.hang;
      await engine.close();
      return {
        keptBytes: level === 1 ? 77 << 20 : 0,
        wake: async () => {
          if (bed.lost) throw bed.lost;
          const next = new ScriptedEngine(listener);
          engines.push(next);
          return ranksOf(next, listener);
        },
        close: async () => void heard.push('freed'),
      };
    });
  life.start(WELCOME);
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 500) {
      clock.advance(Math.min(500, left));
      await settled();
    }
  };
  return { clock, engines, heard, pauses, life, pass, bed, starts: () => starts };
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

describe('sleep', () => {
  const AT_1 = 'asleep at level 1: the page keeps the 77.00 MiB of its weights';
  const AT_2 = 'asleep at level 2: the weights are loaded again when it wakes up';

  test.each([
    [1, AT_1],
    [2, AT_2],
  ] as const)('level %d: out of service at once, watched no more, and back without a start', async (level, said) => {
    const { engines, heard, life, pass, starts } = setUp();
    await settled();
    void life.sleep(level);
    expect(life.current).toBeNull();
    await settled();
    expect(life.asleep).toBe(said.slice('asleep '.length));
    // Nobody asks an engine that sleeps for a heartbeat.
    await pass(60_000);
    expect(heard).toEqual(['started', said]);
    await life.wake();
    expect(heard).toEqual(['started', said, 'warming: waking up', 'started']);
    expect(life.asleep).toBeNull();
    expect(life.current?.engines[0]).toBe(engines[1]);
    expect(starts()).toBe(1);
    engines[1]!.lose('and is watched again');
    expect(heard.at(-1)).toBe('broken: and is watched again');
    await life.close();
  });

  test('twice each: the second call finds nothing to do', async () => {
    const { heard, life, engines } = setUp();
    await settled();
    void life.sleep(1);
    await life.sleep(2);
    await settled();
    await life.sleep(2);
    await Promise.all([life.wake(), life.wake()]);
    expect(heard).toEqual(['started', AT_1, 'warming: waking up', 'started']);
    expect(engines).toHaveLength(2);
    await life.close();
  });

  test('what the page cannot hold it does not keep, and says so', async () => {
    const { heard, life, bed } = setUp();
    await settled();
    bed.refusals.push(new EngineError('out_of_memory', 'The browser gave 5 bytes.'));
    await life.sleep(1);
    expect(heard.at(-1)).toBe('asleep at level 2, though level 1 was asked for: The browser gave 5 bytes.');
    expect(life.current).toBeNull();
    await life.close();
    expect(heard.at(-1)).toBe('freed');
  });

  test('who cannot fall asleep, or hangs over it, is started anew', async () => {
    const failing = setUp();
    await settled();
    failing.bed.refusals.push(new EngineError('internal', 'no'));
    await failing.life.sleep(2);
    expect(failing.heard).toEqual(['started', 'broken: no']);
    expect(failing.engines[0]!.closed).toBe(true);
    const hanging = setUp();
    await settled();
    hanging.bed.hang = new Promise(() => {});
    void hanging.life.sleep(2);
    await hanging.pass(119_000);
    expect(hanging.heard).toEqual(['started']);
    await hanging.pass(1000);
    expect(hanging.heard.at(-1)).toContain('did not fall asleep in 120 s');
    expect(hanging.engines[0]!.closed).toBe(true);
    await hanging.pass(1000);
    expect(hanging.starts()).toBe(2);
  });

  test('who cannot wake up, as when its device was lost, is started anew from the files', async () => {
    const { heard, life, bed, pass, starts } = setUp();
    await settled();
    await life.sleep(1);
    bed.lost = new EngineError('device_lost', 'The device was lost.');
    await pass(10_000);
    // Not before somebody wants it: the GPU was to be free.
    expect(starts()).toBe(1);
    await life.wake();
    expect(heard.slice(-2)).toEqual(['freed', 'broken: The device was lost.']);
    await pass(1000);
    expect(starts()).toBe(2);
    expect(heard.at(-1)).toBe('started');
  });

  test('closed while it falls asleep or sleeps, it frees the GPU and says nothing more', async () => {
    const { heard, life, bed } = setUp();
    await settled();
    let go = () => {};
    bed.hang = new Promise((resolve) => {
      go = () => resolve(undefined);
    });
    void life.sleep(1);
    await life.close();
    go();
    await settled();
    expect(heard).toEqual(['started', 'freed']);
    await life.wake();
    expect(heard).toEqual(['started', 'freed']);
  });
});
