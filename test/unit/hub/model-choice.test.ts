import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { fitsAdapter } from '../../../src/engine/model/memory.ts';
import { modelFor, type OfferedModel } from '../../../src/hub/model-choice.ts';
import type { AdapterRoom } from '../../../src/protocol/messages.ts';

const MiB = 1 << 20;
const PICO = JSON.parse(readFileSync(new URL('../../../models/quire-pico/config.json', import.meta.url), 'utf8'));
const spec = modelSpec(PICO);

/** Same shape, other weight: what a model weighs is the size of its files. */
const model = (name: string, mib: number): OfferedModel => ({
  offer: { name, fingerprint: name, base: `/models/${name}/`, files: [] },
  spec,
  weightBytes: mib * MiB,
});
const small = model('small', 12);
const middle = model('middle', 600);
const large = model('large', 3000);

const room = (mib: number, over: Partial<AdapterRoom> = {}): AdapterRoom => ({
  maxBufferSize: mib * MiB,
  maxStorageBufferBindingSize: mib * MiB,
  software: false,
  ...over,
});
const choose = (room: AdapterRoom | null, held: string[] = [], query = '', offered: Record<string, string> = {}) =>
  modelFor([small, middle, large], { room, query }, new Set(held), offered).offer.name;

describe('J11: the model that a page is offered', () => {
  test('the largest that fits its adapter', () => {
    const all = ['small', 'middle', 'large'];
    expect(choose(room(8192), all)).toBe('large');
    expect(choose(room(2048), all)).toBe('middle');
    expect(choose(room(512), all)).toBe('small');
  });

  test('first one that no node has, the largest of those', () => {
    expect(choose(room(8192), [])).toBe('large');
    expect(choose(room(8192), ['large'])).toBe('middle');
    expect(choose(room(8192), ['large', 'middle'])).toBe('small');
    // One that does not fit is not missed.
    expect(choose(room(2048), ['middle', 'small'])).toBe('middle');
  });

  test('the smallest where none fits, and the order of --model among equals', () => {
    expect(choose(room(8))).toBe('small');
    const twins = [model('a', 12), model('b', 12)] as const;
    expect(modelFor(twins, { room: room(1024), query: '' }, new Set(), {}).offer.name).toBe('a');
    expect(modelFor(twins, { room: room(1024), query: '' }, new Set(['a']), {}).offer.name).toBe('b');
  });

  test('an adapter that nobody knows of takes any', () => {
    expect(choose(null)).toBe('large');
  });

  test('a software adapter counts a quarter of its largest buffer, unless an option says more', () => {
    const all = ['small', 'middle', 'large'];
    const software = room(2048, { software: true });
    expect(choose(software, all)).toBe('small');
    expect(choose(software, all, '?gpu-memory-utilization=0.9')).toBe('middle');
    expect(choose(software, all, '', { 'gpu-memory-utilization': '0.9' })).toBe('middle');
    expect(choose(software, all, '?gpu-memory-utilization=0.1', { 'gpu-memory-utilization': '0.9' })).toBe('small');
  });

  test('a page whose options are wrong is offered something, and refuses itself', () => {
    expect(choose(room(512), [], '?max-num-seq=1')).toBe('large');
    expect(choose(room(8192), [], `?max-model-len=${spec.maxPositions + 1}`)).toBe('small');
  });
});

test('fitsAdapter counts weights, activations and one longest sequence, and the largest single buffer', () => {
  const options: Parameters<typeof fitsAdapter>[1] = {
    engines: 1,
    blockSize: 16,
    maxModelLen: spec.maxPositions,
    maxNumSeqs: 32,
    maxNumBatchedTokens: null,
    numGpuBlocksOverride: null,
    maxLoras: 0,
    maxLoraRank: 16,
    gpuMemoryUtilization: 1,
    kvCacheDtype: 'auto',
    speculation: null,
    quantization: 'none',
    dtype: 'auto',
  };
  const weights = { spec, weightBytes: 11.6 * MiB };
  const least = [...Array(200).keys()].find((mib) => fitsAdapter(weights, options, room(mib)))!;
  // One block of 16 tokens: K and V, 2 bytes a value, in every layer.
  const blockBytes = 16 * 2 * 2 * spec.numKvHeads * spec.headDim * spec.layers.length;
  const pool = (Math.ceil(spec.maxPositions / 16) * blockBytes) / MiB;
  expect(least).toBeGreaterThan(11.6 + pool);
  // Four times the KV blocks need three pools more.
  const blocks = 4 * Math.ceil(spec.maxPositions / 16);
  const more = [...Array(400).keys()].find((mib) =>
    fitsAdapter(weights, { ...options, numGpuBlocksOverride: blocks }, room(mib)),
  )!;
  expect(more - least).toBeGreaterThanOrEqual(Math.floor(3 * pool));
  expect(more - least).toBeLessThanOrEqual(Math.ceil(3 * pool));
  // Who asks for no length needs less of it.
  const some = [...Array(200).keys()].find((mib) =>
    fitsAdapter(weights, { ...options, maxModelLen: null }, room(mib)),
  )!;
  expect(least - some).toBeGreaterThanOrEqual(Math.floor((pool * (spec.maxPositions - 1024)) / spec.maxPositions));
  expect(fitsAdapter(weights, options, room(200, { maxStorageBufferBindingSize: 1 * MiB }))).toBe(false);
  // Four bytes a number, whatever the checkpoint has.
  const asF32 = (4 * spec.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0)) / MiB;
  const wide = [...Array(200).keys()].find((mib) =>
    fitsAdapter(weights, { ...options, dtype: 'f32', kvCacheDtype: 'f16' }, room(mib)),
  )!;
  expect(Math.abs(wide - least - (asF32 - 11.6))).toBeLessThanOrEqual(1);
  // 8.5 and 4.5 bits in the place of 16; what is quantized already stays.
  for (const [quantization, part] of [
    ['int8', 8.5 / 16],
    ['int4', 4.5 / 16],
  ] as const) {
    const fits = (mib: number, weightBytes: number) =>
      fitsAdapter({ spec, weightBytes }, { ...options, quantization }, room(mib));
    const packed = [...Array(200).keys()].find((mib) => fits(mib, weights.weightBytes))!;
    expect(Math.abs(least - packed - 11.6 * (1 - part))).toBeLessThanOrEqual(1);
    const held = weights.weightBytes * part;
    expect(fits(packed - 1, held)).toBe(false);
  }
});
