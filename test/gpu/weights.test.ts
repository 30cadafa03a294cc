import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { modelSpec } from '../../src/engine/model/config.ts';
import { type LoadedWeights, loadWeights } from '../../src/engine/model/weights.ts';
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

describe('quire-pico, streamed in odd chunks', () => {
  let weights: LoadedWeights;
  const file = bytesOf(`${PICO}/model.safetensors`);
  const tensors = tensorsOf(file);
  const spec = specOf(PICO);

  beforeAll(async () => {
    weights = await loadWeights(bench.gpu.device, spec, memoryFiles({ 'model.safetensors': file }, ODD_SIZES));
  });

  test('every buffer holds the bytes of its sources', async () => {
    expect(spec.weights.length).toBe(2 + 6 * 7);
    for (const w of spec.weights) {
      const sources = w.sources.map(({ name }) => tensors.get(name)!);
      expect(sources.every((s) => s.dtype === 'BF16')).toBe(true);
      const stored = Buffer.concat(sources.map((s) => s.bytes));
      const found = await contents(weights, w.role, w.layer);
      // A vector is f32: the bf16 in the upper half of each word.
      const expected =
        w.cols > 1 ? stored : Buffer.concat([...pairs(stored)].map((p) => Buffer.concat([Buffer.alloc(2), p])));
      expect(found.subarray(0, expected.length).equals(expected), `${w.role} ${w.layer}`).toBe(true);
      expect(found.length - expected.length).toBeLessThan(16);
    }
  });

  test('the head of a tied model is its embedding', () => {
    expect(weights.get('lmHead', null).buffer).toBe(weights.get('embed', null).buffer);
  });
});

function* pairs(bytes: Buffer): Generator<Buffer> {
  for (let i = 0; i < bytes.length; i += 2) yield bytes.subarray(i, i + 2);
}
