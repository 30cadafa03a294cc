import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { chunksOf } from '../../../src/engine/files/stream.ts';
import { ggufHeaderOf, ggufWeightBytes } from '../../../src/engine/gguf/read-header.ts';
import { ggufSpec, withRopeFactors } from '../../../src/engine/gguf/spec.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { readModelSpec } from '../../../src/engine/model/read-spec.ts';
import { inverseFrequencies } from '../../../src/engine/model/rope.ts';
import { convertFolder } from '../../support/convert-gguf.ts';
import { memoryFiles, streamOf } from '../../support/folder-files.ts';
import { type GgufParts, ggufFile, type Metadata } from '../../support/gguf-file.ts';

const oracle = (name: string) => new URL(`../../fixtures/oracles/${name}`, import.meta.url).pathname;
const parts = (name: string) => convertFolder(oracle(name), () => 'F32');
const headerOf = (p: GgufParts) => {
  const file = ggufFile(p);
  return ggufHeaderOf(chunksOf(streamOf(file)), file.byteLength, 'x.gguf');
};
const specOf = async (p: GgufParts) => ggufSpec(await headerOf(p), 'x.gguf');
const withMetadata = (p: GgufParts, more: Metadata): GgufParts => ({ ...p, metadata: { ...p.metadata, ...more } });

describe('the model of a GGUF file is that of the folder that it was converted from', () => {
  test.each(['llama', 'qwen2', 'qwen3', 'mistral', 'gemma3', 'phi3', 'qwen3-moe'])('%s', async (name) => {
    const header = await headerOf(parts(name));
    const spec = ggufSpec(header, 'x.gguf');
    const wanted = modelSpec(JSON.parse(readFileSync(`${oracle(name)}/config.json`, 'utf8')));
    const { weights, layers, normOffset, normEps, ...rest } = spec;
    const { weights: _w, layers: wantedLayers, normOffset: _n, normEps: eps, architecture, bosId, ...others } = wanted;
    expect({ ...rest }).toMatchObject(others);
    expect(rest.architecture).toBe(architecture);
    expect(normOffset).toBe(0);
    expect(normEps).toBeCloseTo(eps, 12);
    for (const [i, layer] of layers.entries()) {
      const { rope, ...own } = layer;
      const { rope: wantedRope, ...theirs } = wantedLayers[i]!;
      expect(own).toEqual(theirs);
      if (rope.scaling.kind !== 'stored') expect(inverseFrequencies(rope)).toEqual(inverseFrequencies(wantedRope));
    }
    expect(weights.filter((w) => w.role !== 'ropeFactors').map((w) => [w.role, w.layer, w.rows, w.cols])).toEqual(
      wanted.weights.map((w) => [w.role, w.layer, w.rows, w.cols]),
    );
    expect(ggufWeightBytes([{ file: 'x.gguf', header }], spec)).toBeGreaterThan(0);
    // A node reads the same without the vocabulary.
    const files = memoryFiles({ 'x.gguf': ggufFile(parts(name)) }, [1000]);
    expect((await readModelSpec(files)).weights).toEqual(weights);
    expect(bosId === null || rest.bosId === null).toBe(true);
  });

  test("llama 3's divisors come with the weights", async () => {
    const p = parts('llama');
    const spec = await specOf(p);
    const factors = new Float32Array(Uint8Array.from(p.tensors['rope_freqs.weight']!.bytes).buffer);
    const [ours, theirs] = [
      withRopeFactors(spec, [...factors]),
      modelSpec(JSON.parse(readFileSync(`${oracle('llama')}/config.json`, 'utf8'))),
    ].map((each) => inverseFrequencies(each.layers[0]!.rope));
    for (const [i, f] of ours!.entries()) expect(Math.abs(f / theirs![i]! - 1)).toBeLessThan(1e-6);
    expect(() => inverseFrequencies(spec.layers[0]!.rope)).toThrow('not loaded yet');
    expect(() => withRopeFactors(spec, [1, 0])).toThrow('must be a positive number');
  });
});

describe('keys of the metadata', () => {
  test('rope scaling, windows, soft caps', async () => {
    const qwen = parts('qwen3');
    const yarn = await specOf(
      withMetadata(qwen, {
        'qwen3.rope.scaling.type': 'yarn',
        'qwen3.rope.scaling.factor': 4,
        'qwen3.rope.scaling.original_context_length': 128,
      }),
    );
    expect(yarn.layers[0]!.rope).toMatchObject({
      scaling: { kind: 'yarn', factor: 4, originalMaxPositions: 128 },
      attentionFactor: 0.1 * Math.log(4) + 1,
    });
    const linear = withMetadata(parts('gemma3'), {
      'gemma3.rope.scaling.type': 'linear',
      'gemma3.rope.scaling.factor': 8,
      'gemma3.final_logit_softcapping': 30,
    });
    const { layers, logitSoftcap } = await specOf(linear);
    expect(layers.map((l) => l.rope.scaling.kind)).toEqual(['default', 'default', 'default', 'linear']);
    expect(logitSoftcap).toBe(30);
    // Without the key, gemma's own pattern: each sixth layer sees everything.
    const { 'gemma3.attention.sliding_window_pattern': _, ...plain } = parts('gemma3').metadata;
    const six = await specOf({ ...parts('gemma3'), metadata: plain });
    expect(six.layers.map((l) => l.slidingWindow)).toEqual([16, 16, 16, 16]);
  });

  test('all ids that end an answer', async () => {
    const { eosIds, bosId } = await specOf(
      withMetadata(parts('qwen3'), {
        'tokenizer.ggml.eot_token_id': 7,
        'tokenizer.ggml.bos_token_id': 5,
        'tokenizer.ggml.tokens': ['a', '<|im_end|>', '<|endoftext|>', '<|im_end|>'],
        'tokenizer.ggml.token_type': { i32: [1, 1, 3, 3] },
      }),
    );
    expect([...eosIds].sort()).toEqual([2, 3, 7]);
    expect(bosId).toBe(5);
  });

  test.each<[string, Metadata, RegExp]>([
    [
      'another architecture',
      { 'general.architecture': 'mamba' },
      /general\.architecture "mamba" is not supported\. Supported: llama/,
    ],
    ['experts where none are known', { 'qwen3.expert_count': 8 }, /experts are supported for qwen3moe alone/],
    ['a size that is a list', { 'qwen3.feed_forward_length': { i32: [1, 2, 3] } }, /differs from layer to layer/],
    ['values of another size', { 'qwen3.attention.value_length': 8 }, /its keys have 32 dimensions, its values 8/],
    ['a scale', { 'qwen3.attention.scale': 0.25 }, /qwen3\.attention\.scale = 0\.25 is not supported/],
    ['another rope scaling', { 'qwen3.rope.scaling.type': 'su' }, /rope\.scaling\.type/],
    ['half a layer', { 'qwen3.block_count': 0.5 }, /metadata of qwen3: block_count/],
    ['heads that do not fit', { 'qwen3.attention.head_count_kv': 3 }, /x\.gguf: its metadata, read as a config\.json/],
  ])('%s is refused', async (_, more, message) => {
    await expect(specOf(withMetadata(parts('qwen3'), more))).rejects.toThrow(message);
  });
});
