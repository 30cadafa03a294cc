import { Histogram, Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { LiveHistogram, quantileOf } from '../../../src/hub/live-histogram.ts';

const BOUNDS = [0.1, 1, 10];

describe('a live histogram', () => {
  test("is exported as prom-client's own, whatever its name and label", async () => {
    for (const label of ['model', 'model_name'] as const) {
      const own = new Registry();
      const live = new LiveHistogram(BOUNDS);
      const theirs = new Registry();
      const config = { name: 'vllm:x_seconds', help: 'Some seconds.', buckets: BOUNDS, labelNames: [label] };
      const reference = new Histogram({ ...config, registers: [theirs] });
      live.exportAs(own, config.name, config.help, label);
      for (const [model, value] of [
        ['a', 0.1],
        ['a', 0.5],
        ['b', 100],
        ['a', 0],
        ['b', 1],
      ] as const) {
        live.of(model).observe(value);
        reference.observe({ [label]: model }, value);
      }
      const lines = async (registry: Registry) => (await registry.metrics()).split('\n').sort();
      expect(await lines(own)).toEqual(await lines(theirs));
    }
  });

  test('is exported under two names, and counts all models together', async () => {
    const registry = new Registry();
    const live = new LiveHistogram(BOUNDS);
    live.exportAs(registry, 'one', 'x', 'model');
    live.exportAs(registry, 'two', 'x', 'model_name');
    live.of('a').observe(0.05);
    live.of('b').observe(50);
    const text = await registry.metrics();
    expect(text).toContain('one_count{model="a"} 1');
    expect(text).toContain('two_bucket{le="10",model_name="b"} 0');
    expect(text).toContain('two_bucket{le="+Inf",model_name="b"} 1');
    expect([...live.total()]).toEqual([1, 0, 0, 1]);
  });
});

describe('quantiles', () => {
  test('lie within their bucket, by its share', () => {
    // Ten observations from 0.1 to 1: the fifth is in the middle.
    expect(quantileOf(BOUNDS, [0, 10, 0, 0], 0.5)).toBeCloseTo(0.55);
    expect(quantileOf(BOUNDS, [50, 49, 1, 0], 0.99)).toBeCloseTo(1);
    expect(quantileOf(BOUNDS, [50, 49, 1, 0], 0.995)).toBeCloseTo(5.5);
  });
  test('beyond the last bound are that bound; of nothing there are none', () => {
    expect(quantileOf(BOUNDS, [0, 0, 0, 3], 0.5)).toBe(10);
    expect(quantileOf(BOUNDS, [0, 0, 0, 0], 0.5)).toBeNull();
  });
});
