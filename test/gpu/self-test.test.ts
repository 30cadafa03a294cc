import { describe, expect, test } from 'vitest';
import { folderFiles } from '../support/folder-files.ts';
import { shaders } from './dawn.ts';
import { oracle, PICO, TestEngine } from './test-engine.ts';

describe.each([
  { name: 'known answer', folder: PICO },
  { name: 'one layer recomputed on the CPU', folder: oracle('qwen3') },
])('self-test: $name', ({ folder }) => {
  const create = (options: Parameters<typeof TestEngine.create>[0] = {}) =>
    TestEngine.create({ folder, golden: true, numGpuBlocksOverride: 64, maxNumSeqs: 2, maxModelLen: 128, ...options });

  test('passes on a working adapter', async () => {
    const engine = await create();
    expect(engine.engine.info.totalBlocks).toBe(64);
    await engine.close();
  });

  test('refuses when dispatches do nothing', async () => {
    const dispatch = GPUComputePassEncoder.prototype.dispatchWorkgroups;
    GPUComputePassEncoder.prototype.dispatchWorkgroups = () => undefined;
    try {
      await expect(create()).rejects.toMatchObject({
        code: 'self_test',
        message: expect.stringMatching(/^The self-test failed on ".+"/),
      });
    } finally {
      GPUComputePassEncoder.prototype.dispatchWorkgroups = dispatch;
    }
  });

  test.each([
    { file: 'attention', from: 'exp(score', to: 'exp(0.98 * score' },
    { file: 'rms_norm', from: 'inverseSqrt(sum', to: 'inverseSqrt(1.03 * sum' },
    { file: 'lib/activation', from: 'exp(min(exponent', to: 'exp(0.97 * min(exponent' },
    { file: 'lib/angle', from: '-1.0 / 6.0', to: '-1.0 / 5.0' },
  ])('refuses when a constant of $file is changed', async ({ file, from, to }) => {
    let changed = 0;
    const library = (path: string): string => {
      const text = shaders(path);
      if (!path.startsWith(file)) return text;
      const other = text.replaceAll(from, to);
      if (other !== text) changed++;
      return other;
    };
    await expect(create({ shaders: library })).rejects.toMatchObject({ code: 'self_test' });
    expect(changed).toBeGreaterThan(0);
  });
});

test('weights that differ from their hash are refused by name', async () => {
  const files = folderFiles(PICO);
  const changed = {
    ...files,
    open: async (path: string, from: number) => {
      const stream = await files.open(path, from);
      if (path !== 'model.safetensors') return stream;
      let at = from;
      return stream.pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            const copy = chunk.slice();
            const hit = 5_000_000 - at;
            if (hit >= 0 && hit < copy.length) copy.fill(0x3f, hit, hit + 64);
            at += chunk.length;
            controller.enqueue(copy);
          },
        }),
      );
    },
  };
  await expect(TestEngine.create({ files: changed })).rejects.toThrow(/model\.safetensors/);
});
