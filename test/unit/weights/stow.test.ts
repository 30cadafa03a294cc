import { afterEach, expect, test, vi } from 'vitest';
import type { LoadedWeights } from '../../../src/engine/weights/loaded.ts';
import { stowWeights } from '../../../src/engine/weights/stow.ts';
import { FakeDevice } from '../../support/fake-device.ts';

afterEach(() => vi.unstubAllGlobals());

test('a page that cannot hold the weights refuses with numbers, before anything is copied', async () => {
  const device = new FakeDevice();
  const size = 40 << 20;
  const buffers = [{ size }, { size }] as GPUBuffer[];
  const weights = { buffers, bytes: 2 * size } as unknown as LoadedWeights;
  let left = 60 << 20;
  vi.stubGlobal('Uint8Array', function reserve(bytes: number) {
    left -= bytes;
    if (left < 0) throw new RangeError('Array buffer allocation failed');
    return { byteLength: bytes };
  });
  const stowed = stowWeights(device.asDevice(), weights);
  vi.unstubAllGlobals();
  await expect(stowed).rejects.toMatchObject({ code: 'out_of_memory' });
  await expect(stowed).rejects.toThrow(/83886080 bytes .* gave it 58720256\..* level 2/);
  expect(device.buffers).toEqual([]);
});
