import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hasMatrices } from '../../../src/engine/gpu/device.ts';
import { matmul } from '../../../src/engine/kernels/matmul.ts';
import { product } from '../../../src/engine/kernels/product.ts';
import { chooseMatrices } from '../../../src/engine/kernels/variant.ts';

const FEATURES = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'] as GPUFeatureName[];
const config = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 };

function adapter(info: object = {}, workgroupBytes = 49_152): GPUAdapter {
  return {
    info: { subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [config], ...info },
    limits: { maxComputeWorkgroupStorageSize: workgroupBytes },
  } as unknown as GPUAdapter;
}

describe('matrix instructions', () => {
  it('are used where the adapter has the shape that the kernels are written for', () => {
    expect(hasMatrices(adapter(), FEATURES)).toBe(true);
    const others = { ...config, resultComponentType: 'f16' };
    expect(hasMatrices(adapter({ subgroupMatrixConfigs: [others, config] }), FEATURES)).toBe(true);
  });

  it.each([
    ['sums in f16 alone', adapter({ subgroupMatrixConfigs: [{ ...config, resultComponentType: 'f16' }] })],
    ['8 x 8 matrices', adapter({ subgroupMatrixConfigs: [{ ...config, M: 8, N: 8, K: 8 }] })],
    ['no list of shapes', adapter({ subgroupMatrixConfigs: undefined })],
    ['subgroups of two sizes', adapter({ subgroupMaxSize: 64 })],
    ['little workgroup memory', adapter({}, 32_768)],
  ])('are not used with %s', (_what, other) => {
    expect(hasMatrices(other, FEATURES)).toBe(false);
  });

  it.each(FEATURES)('are not used without %s', (missing) => {
    expect(
      hasMatrices(
        adapter(),
        FEATURES.filter((f) => f !== missing),
      ),
    ).toBe(false);
  });

  it('are not used where sums must not depend on the batch', () => {
    expect(chooseMatrices(true, true)).toBe(false);
    expect(chooseMatrices(true, false)).toBe(true);
    expect(chooseMatrices(false, false)).toBe(false);
  });

  it('compute products of many rows whose k they divide', () => {
    const none = {} as GPUBuffer;
    const shaderOf = (bucket: number, k: number, matrices: boolean) =>
      matmul({
        ...{ label: '', variant: 'wide', dtype: 'bf16', n: 1024, accumulate: false, countWord: 0, bucket, k, matrices },
        ...{ step: none, input: none, weight: none, out: none },
      }).shader;
    expect(shaderOf(2048, 1024, true)).toBe('matmul_matrix.wgsl');
    expect(shaderOf(2048, 1024, false)).toBe('matmul_block.wgsl');
    expect(shaderOf(2048, 1000, true)).toBe('matmul_block.wgsl');
    expect(shaderOf(32, 1024, true)).toBe('matmul_matrix.wgsl');
    expect(shaderOf(32, 1024, false)).toBe('matmul.wgsl');
    expect(shaderOf(8, 1024, true)).toBe('matmul.wgsl');
  });

  it('are given what their workgroups can stage, at any size', () => {
    const none = {} as GPUBuffer;
    const sizes = fc.record({
      bucket: fc.integer({ min: 4, max: 11 }).map((log) => 2 ** log),
      k: fc.integer({ min: 1, max: 200 }).map((count) => 32 * count),
      n: fc.integer({ min: 1, max: 160_000 }),
      lines: fc.constantFrom(1, 2),
    });
    fc.assert(
      fc.property(sizes, ({ lines, ...size }) => {
        const { kind, tile, constants, workgroups } = product(
          {
            ...{ label: '', variant: 'wide', matrices: true, dtype: 'bf16', countWord: 0, ...size },
            ...{ step: none, input: none, weight: none, out: none },
          },
          lines,
        );
        expect(kind).toBe('matrix');
        const c = constants as Record<
          'SUBGROUP_ROWS' | 'SUBGROUP_COLUMNS' | 'TILE_ROWS' | 'TILE_COLUMNS' | 'PARTS' | 'THREADS' | 'DEPTH',
          number
        >;
        const [rows, columns] = [16 * c.SUBGROUP_ROWS * c.TILE_ROWS, 16 * c.SUBGROUP_COLUMNS * c.TILE_COLUMNS];
        expect(tile).toEqual({ rows, columns: columns / lines });
        expect(workgroups[2] * rows).toBe(size.bucket);
        expect(workgroups[0] * workgroups[1] * columns).toBeGreaterThanOrEqual(size.n * lines);
        const groups = c.SUBGROUP_ROWS * c.SUBGROUP_COLUMNS * c.PARTS;
        expect(c.THREADS).toBe(32 * groups);
        expect(c.THREADS).toBeLessThanOrEqual(256);
        for (const [divisor, of] of [
          [c.DEPTH, size.k],
          [16 * c.PARTS, c.DEPTH],
          [c.THREADS, (rows * c.DEPTH) / 8],
          [c.THREADS, (columns * c.DEPTH) / 8],
          [lines, c.TILE_COLUMNS],
        ] as const) {
          expect(of % divisor).toBe(0);
        }
        expect(2 * (rows + columns) * (c.DEPTH + 8) + 1024 * lines * groups).toBeLessThanOrEqual(49_152);
      }),
    );
  });
});
