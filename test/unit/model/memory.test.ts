import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { chooseVariant } from '../../../src/engine/kernels/variant.ts';
import { loraBytes } from '../../../src/engine/lora/sites.ts';
import { engineBufferBytes } from '../../../src/engine/model/activations.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { engineSizes, fitsAdapter, weightRoom } from '../../../src/engine/model/memory.ts';
import { llama } from './configs.ts';

const spec = modelSpec(llama());
const values = spec.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
const options: Parameters<typeof fitsAdapter>[1] = {
  quantization: 'none',
  dtype: 'auto',
  engines: 1,
  blockSize: 16,
  maxModelLen: null,
  maxNumSeqs: 4,
  maxNumBatchedTokens: 64,
  numGpuBlocksOverride: null,
  maxLoras: 0,
  maxLoraRank: 16,
  gpuMemoryUtilization: null,
  kvCacheDtype: 'auto',
  speculation: null,
};

test('what fits an adapter is not refused for its weights, and what is refused does not fit', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1 << 18, max: 1 << 26 }), fc.boolean(), (maxBufferSize, software) => {
      const room = { maxBufferSize, maxStorageBufferBindingSize: maxBufferSize, software };
      const weightBytes = values * 2;
      const left = weightRoom(spec, options, room);
      if (fitsAdapter({ spec, weightBytes }, options, room)) expect(weightBytes).toBeLessThanOrEqual(left);
      expect(left).toBeGreaterThanOrEqual(0);
    }),
  );
});

test('a longer context and more blocks leave less for weights', () => {
  const room = { maxBufferSize: 1 << 28, maxStorageBufferBindingSize: 1 << 28, software: false };
  const short = weightRoom(spec, { ...options, maxModelLen: 64 }, room);
  expect(short).toBeGreaterThan(weightRoom(spec, options, room));
  expect(weightRoom(spec, { ...options, numGpuBlocksOverride: 1000 }, room)).toBeLessThan(short);
  expect(weightRoom(spec, options, { ...room, maxBufferSize: 1 << 16 })).toBe(0);
});

test('LoRA adapters are kept room for before there is one, once for all engines', () => {
  const room = { maxBufferSize: 1 << 28, maxStorageBufferBindingSize: 1 << 28, software: false };
  const without = weightRoom(spec, { ...options, engines: 2 }, room);
  const lora = { maxLoras: 3, maxLoraRank: 8 };
  const { sizes } = engineSizes(spec, { ...options, ...lora }, room.software);
  const variant = chooseVariant(room.software);
  const plain = engineSizes(spec, options, room.software).sizes;
  const own = engineBufferBytes(spec, sizes, variant) - engineBufferBytes(spec, plain, variant);
  expect(own).toBeGreaterThan(sizes.maxRows * 2 * spec.intermediateSize * 4);
  expect(without - weightRoom(spec, { ...options, ...lora, engines: 2 }, room)).toBe(
    loraBytes(spec, { adapters: 3, rank: 8 }) + 2 * own,
  );
  const weightBytes = values * 2;
  const fits = (more: object, maxBufferSize: number) =>
    fitsAdapter({ spec, weightBytes }, { ...options, ...more }, { ...room, maxBufferSize });
  let least = 1 << 20;
  while (!fits({}, least)) least += 1 << 14;
  expect(fits({ maxLoras: 8, maxLoraRank: 64 }, least)).toBe(false);
});
