import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { modelSpec } from '../../src/engine/model/config.ts';
import type { LoadedWeights } from '../../src/engine/weights/loaded.ts';
import { loadWeights } from '../../src/engine/weights/weights.ts';
import { memoryFiles } from '../support/folder-files.ts';
import { Bench, openDawn } from './dawn.ts';

const root = new URL('../../', import.meta.url);
const bytesOf = (path: string): Uint8Array => new Uint8Array(readFileSync(new URL(path, root)));
const specOf = (folder: string) => modelSpec(JSON.parse(readFileSync(new URL(`${folder}/config.json`, root), 'utf8')));

const PICO = 'models/quire-pico';
/** Sizes that split words, values and the header in all ways. */
const ODD_SIZES = [1, 2, 3, 5, 7, 4099, 65_537, 100_003];

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

/** Bytes of the file's tensors by name, found by an own reading of the format. */
function tensorsOf(file: Uint8Array): Map<string, { dtype: string; bytes: Buffer }> {
  const all = Buffer.from(file);
  const length = Number(all.readBigUInt64LE(0));
  const header: Record<string, { dtype: string; data_offsets: [number, number] }> = JSON.parse(
    all.toString('utf8', 8, 8 + length),
  );
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__');
  return new Map(
    entries.map(([name, t]) => {
      const [begin, end] = t.data_offsets;
      return [name, { dtype: t.dtype, bytes: all.subarray(8 + length + begin, 8 + length + end) }];
    }),
  );
}

async function contents(weights: LoadedWeights, role: Parameters<LoadedWeights['get']>[0], layer: number | null) {
  return Buffer.from(await bench.read(weights.get(role, layer).buffer));
}

/** A vector's bytes as f32, through the language's own conversions where it has them, else by the definition of the format. */
function asF32(bytes: Buffer, dtype: string): Buffer {
  if (dtype === 'F32') return bytes;
  const halves = new Uint16Array(new Uint8Array(bytes).buffer);
  if (dtype === 'BF16') return Buffer.from(Uint32Array.from(halves, (half) => half << 16).buffer);
  const value = (h: number): number => {
    const exponent = (h >> 10) & 31;
    const magnitude = exponent === 0 ? (h & 1023) / 2 ** 24 : (1024 + (h & 1023)) * 2 ** (exponent - 25);
    return h >> 15 ? -magnitude : magnitude;
  };
  return Buffer.from(Float32Array.from(halves, value).buffer);
}

describe.each([
  ['models/quire-pico', 'bf16', 2 + 6 * 7],
  ['test/fixtures/oracles/qwen2', 'f32', 2 + 3 * 7],
  ['test/fixtures/oracles/qwen3-f16', 'f16', 3 + 3 * 7],
  ['test/fixtures/oracles/llama-tied-bf16', 'bf16', 2 + 3 * 6],
])('%s, streamed in odd chunks', (folder, dtype, numWeights) => {
  let weights: LoadedWeights;
  const file = bytesOf(`${folder}/model.safetensors`);
  const spec = specOf(folder);

  beforeAll(async () => {
    weights = await loadWeights(bench.gpu.device, spec, memoryFiles({ 'model.safetensors': file }, ODD_SIZES));
  });

  test('every buffer holds the bytes of its sources', async () => {
    const tensors = tensorsOf(file);
    expect(spec.weights.length).toBe(numWeights);
    for (const w of spec.weights) {
      const sources = w.sources.map(({ name }) => tensors.get(name)!);
      const expected = Buffer.concat(sources.map((s) => (w.cols > 1 ? s.bytes : asF32(s.bytes, s.dtype))));
      const found = await contents(weights, w.role, w.layer);
      expect(weights.get(w.role, w.layer).dtype).toBe(w.cols > 1 ? dtype : 'f32');
      expect(found.subarray(0, expected.length).equals(expected), `${w.role} ${w.layer}`).toBe(true);
      expect(found.length - expected.length).toBeLessThan(16);
    }
  });

  test('the head is the embedding where the model ties them', () => {
    const same = weights.get('lmHead', null).buffer === weights.get('embed', null).buffer;
    expect(same).toBe(spec.tiedEmbeddings);
  });
});

test('a changed byte of the weights fails the load with the name of the file', async () => {
  const file = bytesOf(`${PICO}/model.safetensors`);
  const { offer } = memoryFiles({ 'model.safetensors': file });
  file[5_000_000]! ^= 0x40;
  const changed = { ...memoryFiles({ 'model.safetensors': file }), offer };
  await expect(loadWeights(bench.gpu.device, specOf(PICO), changed)).rejects.toThrow(
    /^model\.safetensors: its bytes are not/,
  );
});
