import { expect, test } from 'vitest';
import { isSoftwareAdapter } from '../../../src/protocol/adapter-name.ts';

const info = (over: Partial<Parameters<typeof isSoftwareAdapter>[0]>) => ({
  vendor: '',
  architecture: '',
  device: '',
  description: '',
  isFallbackAdapter: false,
  ...over,
});

test.each([
  [{ vendor: 'google', architecture: 'swiftshader' }, true],
  [{ vendor: 'mesa', description: 'llvmpipe (LLVM 15.0.6, 256 bits)' }, true],
  [{ vendor: 'microsoft', description: 'Microsoft Basic Render Driver' }, true],
  [{ vendor: 'unheard-of', isFallbackAdapter: true }, true],
  [{ vendor: 'nvidia', architecture: 'hopper', description: 'NVIDIA H200' }, false],
  [{ vendor: 'apple', architecture: 'metal-3' }, false],
  [{}, false],
])('%j is software: %s', (over, software) => {
  expect(isSoftwareAdapter(info(over))).toBe(software);
});
