import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import type { ModelFiles } from '../../../src/engine/files/source.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import type { LoadOptions } from '../../../src/engine/weights/loaded.ts';
import { loadWeights } from '../../../src/engine/weights/weights.ts';
import { FakeDevice } from '../../support/fake-device.ts';
import { memoryFiles } from '../../support/folder-files.ts';
import { safetensorsFile, type TestTensors, tensorsFor } from '../../support/safetensors-file.ts';

/** One layer, tied, with q and k norms: every role but `lmHead` and biases. */
const spec = modelSpec({
  model_type: 'qwen3',
  vocab_size: 3,
  hidden_size: 4,
  intermediate_size: 2,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 2,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
});
const tensors = tensorsFor(spec, 'BF16');
const file = safetensorsFile(tensors);
const Q = 'model.layers.0.self_attn.q_proj.weight';
const K = 'model.layers.0.self_attn.k_proj.weight';

const load = (device: FakeDevice, files: ModelFiles, options?: LoadOptions) =>
  loadWeights(device.asDevice(), spec, files, options);
const single = (t: TestTensors): ModelFiles => memoryFiles({ 'model.safetensors': safetensorsFile(t) });

/** The message of the `EngineError` that loading ends in; all buffers must be freed by then. */
async function refusal(files: ModelFiles, options?: LoadOptions, device = new FakeDevice()): Promise<string> {
  const error = await load(device, files, options).then(
    () => null,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(EngineError);
  expect(device.buffers.every((b) => b.destroyed)).toBe(true);
  return `${(error as EngineError).code}: ${(error as EngineError).message}`;
}

/** What each buffer must hold: sources one after the other, vectors with each bf16 in the upper half of a word. */
const expected = new Map(
  spec.weights.map((w) => {
    const stored = Buffer.concat(w.sources.map((s) => tensors[s.name]!.bytes));
    if (w.cols > 1) return [w, stored];
    return [
      w,
      Buffer.concat(Array.from({ length: w.rows }, (_, i) => Buffer.from([0, 0, stored[2 * i]!, stored[2 * i + 1]!]))),
    ];
  }),
);

async function expectLoaded(files: ModelFiles): Promise<FakeDevice> {
  const device = new FakeDevice();
  const loaded = await load(device, files);
  for (const [w, bytes] of expected) {
    const { buffer, rows, cols, dtype } = loaded.get(w.role, w.layer);
    expect({ rows, cols, dtype }).toEqual({ rows: w.rows, cols: w.cols, dtype: w.cols === 1 ? 'f32' : 'bf16' });
    const found = (buffer as unknown as { bytes: Uint8Array }).bytes;
    expect(Buffer.from(found.subarray(0, bytes.length)).equals(bytes), `${w.role}`).toBe(true);
  }
  expect(loaded.bytes).toBe(device.buffers.reduce((sum, b) => sum + b.size, 0));
  expect(device.buffers).toHaveLength(spec.weights.length);
  return device;
}

describe('a stream', () => {
  test('split in two at every byte', async () => {
    const whole = (await expectLoaded(memoryFiles({ 'model.safetensors': file }))).contents();
    for (let at = 1; at < file.byteLength; at++) {
      const device = new FakeDevice();
      await load(device, memoryFiles({ 'model.safetensors': file }, [at, file.byteLength]));
      if (!device.contents().equals(whole)) expect.fail(`split at byte ${at}`);
    }
  });

  test('cut at any sizes', async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 9 });
    await fc.assert(
      fc.asyncProperty(sizes, async (chunkSizes) => {
        await expectLoaded(memoryFiles({ 'model.safetensors': file }, chunkSizes));
      }),
      { numRuns: 50 },
    );
  });

  test('is reported as it goes, up to all of its bytes', async () => {
    const seen: [number, number][] = [];
    await load(new FakeDevice(), memoryFiles({ 'model.safetensors': file }, [100]), {
      onProgress: (loaded, total) => seen.push([loaded, total]),
    });
    expect(seen).toHaveLength(Math.ceil(file.byteLength / 100));
    expect(seen.at(-1)).toEqual([file.byteLength, file.byteLength]);
    expect(seen[1]).toEqual([200, file.byteLength]);
  });

  test('of one huge chunk is handed on in pieces of at most 4 MiB', async () => {
    const big = modelSpec({
      model_type: 'llama',
      vocab_size: 3000,
      hidden_size: 1024,
      intermediate_size: 2,
      num_hidden_layers: 1,
      num_attention_heads: 1,
      head_dim: 2,
      max_position_embeddings: 16,
      tie_word_embeddings: true,
    });
    const device = new FakeDevice();
    const { bytes } = await loadWeights(device.asDevice(), big, single(tensorsFor(big, 'F32')));
    expect(bytes).toBeGreaterThan(12_000_000);
    expect(device.largestWrite).toBeGreaterThan(4_000_000);
    expect(device.largestWrite).toBeLessThanOrEqual(4 * 1024 * 1024);
  });
});

describe('several files', () => {
  const names = Object.keys(tensors);
  const shard = (...wanted: string[]) => safetensorsFile(Object.fromEntries(wanted.map((n) => [n, tensors[n]!])));
  const index = (map: Record<string, string>) => Buffer.from(JSON.stringify({ weight_map: map }));
  const first = names.slice(0, 3); // embed, input norm, q: q, k and v are one buffer over both files
  const rest = names.slice(3);
  const map = Object.fromEntries(names.map((n) => [n, first.includes(n) ? 'a.safetensors' : 'b.safetensors']));
  const shards = {
    'a.safetensors': shard(...first),
    'b.safetensors': shard(...rest),
    'model.safetensors.index.json': index(map),
  };

  test('are put together by their index', async () => {
    expect(first).toContain(Q);
    expect(rest).toContain(K);
    await expectLoaded(memoryFiles(shards, [61]));
  });

  test('one that is missing, or a tensor that is in both, is named', async () => {
    const { 'b.safetensors': _, ...without } = shards;
    expect(await refusal(memoryFiles(without))).toContain('names b.safetensors, and there is no such file');
    expect(await refusal(memoryFiles({ ...shards, 'b.safetensors': shard(Q, ...rest) }))).toContain(
      `${Q}: was already in another file`,
    );
  });

  test('too large in sum are refused before one is opened', async () => {
    const files = memoryFiles(shards);
    const opened: string[] = [];
    const spied: ModelFiles = {
      ...files,
      open: async (path, from) => {
        opened.push(path);
        return files.open(path, from);
      },
    };
    expect(await refusal(spied, { maxBytes: 300 })).toMatch(
      /^out_of_memory: .* take \d+ bytes of GPU memory, .* room for 300\. Choose/,
    );
    expect(opened).toEqual(['model.safetensors.index.json']);
  });
});

describe('tensors that do not fit', () => {
  test('missing', async () => {
    const { [Q]: _, 'model.norm.weight': __, ...others } = tensors;
    expect(await refusal(single(others))).toContain(`the checkpoint lacks ${Q}, model.norm.weight.`);
  });

  test('of another layer, or of no model', async () => {
    const extra = { ...tensors, 'model.layers.1.input_layernorm.weight': tensors['model.norm.weight']! };
    expect(await refusal(single(extra))).toMatch(
      /model\.layers\.1\.input_layernorm\.weight: is not part of Qwen3ForCausalLM with 1 layers/,
    );
  });

  test('of another shape, also when it has as many values', async () => {
    const turned = { ...tensors, [K]: { ...tensors[K]!, shape: [4, 2] } };
    expect(await refusal(single(turned))).toContain(
      `${K}: has shape [4, 2], the model's configuration asks for [2, 4]`,
    );
  });

  test('of another dtype than those they are stacked with', async () => {
    const mixed = { ...tensors, [K]: { ...tensors[K]!, dtype: 'F16' as const } };
    expect(await refusal(single(mixed))).toContain(`${K}: is F16, but ${Q}, which it is stacked with, is BF16`);
  });

  test('superfluous ones that older exports carry are skipped', async () => {
    const inv = { dtype: 'F32' as const, shape: [1], bytes: new Uint8Array(4) };
    const more: TestTensors = {
      'model.layers.0.self_attn.rotary_emb.inv_freq': inv,
      'lm_head.weight': tensors['model.embed_tokens.weight']!,
    };
    await expectLoaded(single({ ...more, ...tensors }));
  });

  test('another --dtype needs the shaders, and it is said before anything is read', async () => {
    await expect(load(new FakeDevice(), single(tensors), { dtype: 'f16' })).rejects.toThrow('needs the shaders');
  });
});

describe('memory', () => {
  // bf16 matrices, f32 vectors, each buffer in whole 16 bytes.
  const needed = spec.weights.reduce(
    (sum, w) => sum + 16 * Math.ceil((w.rows * w.cols * (w.cols === 1 ? 4 : 2)) / 16),
    0,
  );

  test('is known from the header, and refused with both numbers before anything is allocated', async () => {
    expect((await load(new FakeDevice(), single(tensors), { maxBytes: needed })).bytes).toBe(needed);
    const device = new FakeDevice();
    const words = await refusal(single(tensors), { maxBytes: needed - 1 }, device);
    expect(words).toContain(
      `out_of_memory: model.safetensors: its weights take ${needed} bytes of GPU memory, and beside working memory and the KV blocks of one sequence there is room for ${needed - 1}`,
    );
    expect(device.buffers).toHaveLength(0);
  });

  test('a row above the binding limit is refused with the limit', async () => {
    expect(await refusal(single(tensors), {}, new FakeDevice(15))).toContain(
      'embed_tokens.weight: cannot be split into buffers of 15 bytes',
    );
  });

  test('a GPU without room says so', async () => {
    const words = await refusal(single(tensors), {}, new FakeDevice(2 ** 30, 'no room'));
    expect(words).toMatch(/^out_of_memory: The GPU has no room for the \d+ bytes .*no room/);
  });
});

describe('bytes that are not those of the offer', () => {
  const offered = memoryFiles({ 'model.safetensors': file });
  const giving = (bytes: Uint8Array): ModelFiles => ({
    ...memoryFiles({ 'model.safetensors': bytes }),
    offer: offered.offer,
  });

  test.each([file.byteLength - 1, file.byteLength - 200])('one changed byte at %i', async (at) => {
    const changed = file.slice();
    changed[at]! ^= 1;
    expect(await refusal(giving(changed))).toMatch(
      /^model: model\.safetensors: its bytes are not those that were offered \(SHA-256 [0-9a-f]{64}/,
    );
  });

  test('fewer, and more', async () => {
    expect(await refusal(giving(file.subarray(0, -1)))).toContain(
      `model.safetensors: ended after ${file.byteLength - 1} of ${file.byteLength}`,
    );
    expect(await refusal(giving(Buffer.concat([file, new Uint8Array(1)])))).toContain('has more than');
  });

  test('no safetensors file at all', async () => {
    expect(await refusal(memoryFiles({ 'config.json': file }))).toContain('neither model.safetensors nor');
    expect(await refusal(memoryFiles({ 'model.safetensors': new Uint8Array(3) }))).toContain('has only 3 bytes');
  });
});
