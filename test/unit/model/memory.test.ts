import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { fitsAdapter, weightRoom } from '../../../src/engine/model/memory.ts';
import { llama } from './configs.ts';

const spec = modelSpec(llama());
const values = spec.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
const options: Parameters<typeof fitsAdapter>[1] = {
  quantization: 'none',
  engines: 1,
  blockSize: 16,
  maxModelLen: null,
  maxNumSeqs: 4,
  maxNumBatchedTokens: 64,
  numGpuBlocksOverride: null,
  gpuMemoryUtilization: null,
  kvCacheDtype: 'auto',
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
