import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ModelFiles } from '../../../src/engine/files/source.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { readModelSpec } from '../../../src/engine/model/read-spec.ts';
import type { ModelSpec } from '../../../src/engine/model/spec.ts';
import type { LoadedWeight } from '../../../src/engine/weights/loaded.ts';
import { placesOf, splitWeight } from '../../../src/engine/weights/parts.ts';
import { unpackWeight } from '../../../src/engine/weights/unpack.ts';
import { loadWeights } from '../../../src/engine/weights/weights.ts';
import { convertFolder } from '../../support/convert-gguf.ts';
import { FakeDevice } from '../../support/fake-device.ts';
import { memoryFiles } from '../../support/folder-files.ts';
import { ggufFile } from '../../support/gguf-file.ts';
import { safetensorsFile, tensorsFor } from '../../support/safetensors-file.ts';

const DTYPES = ['f32', 'bf16', 'int8', 'int4', 'int8-16', 'int4-min'] as const;

describe('a weight in parts', () => {
  const shapes = fc.record({
    outputs: fc.integer({ min: 1, max: 300 }),
    matrices: fc.integer({ min: 1, max: 6 }),
    cols: fc.integer({ min: 1, max: 40 }).map((n) => 2 * n),
    dtype: fc.constantFrom(...DTYPES),
    limit: fc.integer({ min: 16, max: 60_000 }),
  });

  test('holds each row once, in as few buffers within the limit as hold it', () => {
    fc.assert(
      fc.property(shapes, ({ outputs, matrices, cols, dtype, limit }) => {
        const spec = { role: 'gateUp', layer: 0, sources: [], rows: outputs * matrices, matrices, cols } as const;
        const whole = { firstOutput: 0, outputs };
        const parts = splitWeight(spec, whole, dtype, limit);
        const [one] = splitWeight(spec, { ...whole, outputs: 1 }, dtype, Number.MAX_SAFE_INTEGER)!;
        if (parts === null) {
          expect(one!.layout.bytes).toBeGreaterThan(limit - 16);
          return;
        }
        for (const part of parts) expect(part.bytes).toBeLessThanOrEqual(limit);
        const bytes = outputs * one!.layout.bytes;
        const most = Math.floor((limit - (limit % 16)) / one!.layout.bytes);
        expect(parts.length).toBe(Math.ceil(outputs / Math.ceil(outputs / Math.ceil(outputs / most))));
        expect(parts.reduce((sum, { layout }) => sum + layout.bytes, 0)).toBe(bytes);
        const seen = new Set<string>();
        let row = 0;
        for (const place of placesOf(parts, 0, spec.rows)) {
          for (let i = 0; i < place.rows; i++, row++) {
            const output = row % outputs;
            expect(output).toBe(place.part.firstOutput + ((place.row + i) % place.part.outputs));
            expect(Math.floor((place.row + i) / place.part.outputs)).toBe(Math.floor(row / outputs));
            seen.add(`${place.part.firstOutput} ${place.row + i}`);
          }
        }
        expect(row).toBe(spec.rows);
        expect(seen.size).toBe(spec.rows);
      }),
    );
  });
});

const moe = modelSpec({
  model_type: 'qwen3_moe',
  vocab_size: 37,
  hidden_size: 40,
  intermediate_size: 24,
  num_hidden_layers: 2,
  mlp_only_layers: [0],
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 6,
  num_experts: 3,
  num_experts_per_tok: 2,
  moe_intermediate_size: 14,
  max_position_embeddings: 64,
});

const DENSE = ['down', 'gateUp'];

const bytesOf = ({ buffer }: LoadedWeight) => (buffer as unknown as { bytes: Uint8Array }).bytes;

/** Loads whole and in small buffers: the same numbers in the same rows. Returns the roles that are in several buffers then. */
async function splitRoles(spec: ModelSpec, files: ModelFiles, maxBufferBytes: number): Promise<string[]> {
  const roles = new Set<string>();
  const whole = await loadWeights(new FakeDevice().asDevice(), spec, files);
  const device = new FakeDevice();
  const split = await loadWeights(device.asDevice(), spec, files, { maxBufferBytes });
  for (const { role, layer, cols } of spec.weights) {
    const [many, one] = [split, whole].map((weights) =>
      weights.parts(role, layer).map((part) => ({ ...part, bytes: bytesOf(part) })),
    );
    expect(unpackWeight(many!), `${role} ${layer}`).toEqual(unpackWeight(one!));
    const larger = one!.some(({ bytes }) => bytes.byteLength > maxBufferBytes);
    if (cols === 1) expect(many).toHaveLength(1);
    else expect(many!.length > one!.length, `${role} ${layer}`).toBe(larger);
    if (larger) roles.add(role);
  }
  expect(device.buffers.every(({ size }) => size <= maxBufferBytes)).toBe(true);
  expect(split.bytes).toBe(device.buffers.reduce((sum, { size }) => sum + size, 0));
  return [...roles].sort();
}

describe('loading into parts gives every row to its place', () => {
  test.each(['F32', 'BF16'] as const)('%s safetensors, experts and dense, cut anywhere', async (dtype) => {
    const file = safetensorsFile(tensorsFor(moe, dtype));
    const limit = dtype === 'F32' ? 1024 : 512;
    for (const chunks of [[file.byteLength], [1009], [61, 7, 3000]])
      expect(await splitRoles(moe, memoryFiles({ 'model.safetensors': file }, chunks), limit)).toEqual(
        ['embed', 'expertDown', 'expertGateUp', 'lmHead', 'oProj', 'qkv', ...DENSE].sort(),
      );
  });

  test.each([
    ['llama', 1300, ['embed', 'lmHead', 'oProj', 'qkv', ...DENSE]],
    ['qwen2', 1300, ['embed', 'oProj', 'qkv', ...DENSE]],
    ['gemma3', 1300, ['embed', 'oProj', 'qkv', ...DENSE]],
    ['phi3', 1300, ['embed', 'lmHead', 'oProj', 'qkv', ...DENSE]],
    ['qwen3-moe', 3000, ['embed', 'expertDown', 'expertGateUp', 'lmHead', 'oProj', 'qkv']],
  ])('Q8_0 GGUF of %s', async (name, limit, roles) => {
    const folder = new URL(`../../fixtures/oracles/${name}`, import.meta.url).pathname;
    const parts = convertFolder(folder, (_, cols) => (cols % 32 === 0 ? 'Q8_0' : 'F32'));
    const files = memoryFiles({ 'm.gguf': ggufFile(parts) }, [100_003, 7]);
    expect(await splitRoles(await readModelSpec(files), files, limit)).toEqual(roles.sort());
  });

  test('a row that no buffer holds is refused with the limit', async () => {
    const files = memoryFiles({ 'model.safetensors': safetensorsFile(tensorsFor(moe, 'F32')) });
    const load = loadWeights(new FakeDevice().asDevice(), moe, files, { maxBufferBytes: 150 });
    await expect(load).rejects.toThrow(/embed_tokens.*cannot be split into buffers of 150 bytes, the most/);
  });
});
