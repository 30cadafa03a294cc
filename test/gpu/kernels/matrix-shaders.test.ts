import { beforeAll, describe, expect, it } from 'vitest';
import { create } from 'webgpu';
import { openGpu } from '../../../src/engine/gpu/device.ts';
import type { KernelCall } from '../../../src/engine/gpu/kernel.ts';
import { shaderSource } from '../../../src/engine/gpu/shader-source.ts';
import { attention } from '../../../src/engine/kernels/attention.ts';
import { gateUp } from '../../../src/engine/kernels/gate-up.ts';
import { matmul } from '../../../src/engine/kernels/matmul.ts';
import { Bench, shaders } from '../dawn.ts';
import { pairwise } from './pairwise.ts';

// Dawn's null backend computes nothing, but knows every feature: what matrices.test.ts runs on a GPU alone is at least read everywhere.
const instance = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openGpu(instance, { allowSoftware: true }));
});

async function expectValid(calls: readonly KernelCall[], shader: string): Promise<void> {
  const call = calls.find((c) => c.shader === shader);
  if (!call) expect.fail(`${shader} is not among ${calls.map((c) => c.shader).join(', ')}`);
  const { device } = bench.gpu;
  // Its words are those of the compilation info.
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: shaderSource(shaders, shader, call.constants) });
  await device.popErrorScope();
  const { messages } = await module.getCompilationInfo();
  expect(messages.map(({ lineNum, message }) => `${lineNum}: ${message}`)).toEqual([]);
}

describe('shaders with matrix instructions are valid', () => {
  it.each(pairwise({ dtype: ['f32', 'bf16', 'f16'], bucket: [16, 32, 64, 512], k: [32, 192, 1024] }))(
    'products of $bucket rows, $dtype, k $k',
    async ({ dtype, bucket, k }) => {
      const buffer = bench.buffer(16);
      const product = {
        label: 'test',
        variant: 'wide' as const,
        matrices: true,
        bucket,
        n: 128,
        k,
        dtype,
        step: buffer,
        countWord: 0,
        input: buffer,
        weight: buffer,
        out: bench.buffer(16),
      };
      await expectValid([matmul({ ...product, accumulate: false })], 'matmul_matrix.wgsl');
      await expectValid([gateUp({ ...product, activation: 'silu' })], 'gate_up_matrix.wgsl');
    },
  );

  it.each(['f32', 'bf16', 'f16'] as const)('attention, %s', async (kvDtype) => {
    const buffer = bench.buffer(16);
    const calls = attention({
      label: 'test',
      variant: 'wide',
      matrices: true,
      chunks: true,
      bucket: 512,
      numHeads: 16,
      numKvHeads: 8,
      headDim: 128,
      kvDtype,
      blockSize: 16,
      maxBlocksPerSeq: 128,
      scale: 0.1,
      slidingWindow: 0,
      softcap: 0,
      rows: buffer,
      blockTable: buffer,
      q: buffer,
      kPool: buffer,
      vPool: buffer,
      partials: bench.buffer(16),
      out: bench.buffer(16),
    });
    await expectValid(calls, 'attention_matrix.wgsl');
  });
});
