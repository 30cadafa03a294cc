import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import type { ModelFiles } from '../../../src/engine/files/source.ts';
import { readModelSpec } from '../../../src/engine/model/read-spec.ts';
import type { LoadOptions } from '../../../src/engine/weights/loaded.ts';
import { loadWeights } from '../../../src/engine/weights/weights.ts';
import { ggufModels } from '../../../src/protocol/model-files.ts';
import { convertFolder } from '../../support/convert-gguf.ts';
import { FakeDevice } from '../../support/fake-device.ts';
import { memoryFiles } from '../../support/folder-files.ts';
import { type GgufParts, ggufFile, splitGguf } from '../../support/gguf-file.ts';

const oracle = (name: string) => new URL(`../../fixtures/oracles/${name}`, import.meta.url).pathname;
/** q, k and v of several types, as the usual mixtures have them. */
const mixed = (name: string): GgufParts =>
  convertFolder(oracle(name), (tensor, cols) => (cols % 32 !== 0 ? 'F32' : /attn_v/.test(tensor) ? 'Q8_0' : 'Q4_0'));

/** What each buffer holds, by the name of its weight and its place in it. */
async function buffersOf(files: ModelFiles, options?: LoadOptions): Promise<Map<string, Buffer>> {
  const device = new FakeDevice();
  const spec = await readModelSpec(files);
  const weights = await loadWeights(device.asDevice(), spec, files, options);
  const found = new Map<string, Buffer>();
  for (const { role, layer } of spec.weights) {
    for (const { buffer, firstOutput, dtype } of weights.parts(role, layer))
      found.set(
        `${role} ${layer} ${firstOutput} ${dtype}`,
        Buffer.from((buffer as unknown as { bytes: Buffer }).bytes),
      );
  }
  expect(found.size).toBe(device.buffers.length);
  return found;
}

async function refusal(contents: Record<string, Uint8Array>, options?: LoadOptions): Promise<string> {
  const error = await buffersOf(memoryFiles(contents), options).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(EngineError);
  return (error as EngineError).message;
}

describe('a split GGUF model', () => {
  test.each(['llama', 'qwen3-moe', 'gemma3'])('%s: cut between any two tensors, it is the same model', async (name) => {
    const parts = mixed(name);
    const count = Object.keys(parts.tensors).length;
    const whole = memoryFiles({ 'm.gguf': ggufFile(parts) });
    const [spec, buffers] = [await readModelSpec(whole), await buffersOf(whole)];
    // q, k and v of a layer are in several files among these; the first file may have no tensors at all.
    const cuts = Array.from({ length: Math.min(count, 6) }, (_, i) => [i]);
    for (const counts of [...cuts, [0, 3, 1, 2], Array.from({ length: count - 1 }, () => 1)]) {
      const files = memoryFiles(splitGguf('m', parts, ...counts), [10_007, 13]);
      expect(files.offer.files).toHaveLength(counts.length + 1);
      expect(await readModelSpec(files)).toEqual(spec);
      expect(await buffersOf(files)).toEqual(buffers);
    }
  });

  const parts = mixed('llama');
  const files = splitGguf('m', parts, 4, 5);
  const [one, two, three] = Object.keys(files) as [string, string, string];

  test('names its parts, wherever they are among others', () => {
    expect(ggufModels(['x.gguf', three, one, 'README.md', 'm-00001-of-00002.gguf', two])).toEqual([
      { name: 'm', files: ['m-00001-of-00002.gguf'], missing: ['m-00002-of-00002.gguf'] },
      { name: 'm', files: [one, two, three], missing: [] },
      { name: 'x', files: ['x.gguf'], missing: [] },
    ]);
    // Numbers that count nothing, or more than anybody has, are part of a name.
    for (const odd of ['m-00001-of-00000.gguf', 'm-00001-of-99999.gguf', 'm-00003-of-00002.gguf', 'm-1-of-2.gguf'])
      expect(ggufModels([odd]).map((model) => model.files)).toEqual([[odd]]);
  });

  test('is refused where a part is missing, is another, or is there twice', async () => {
    const without = { [one]: files[one]!, [three]: files[three]! };
    expect(await refusal(without)).toContain('it lacks m-00002-of-00003.gguf, one of its 3 parts');
    expect(await refusal({ ...files, [two]: files[three]!, [three]: files[two]! })).toMatch(
      /^m-00002-of-00003\.gguf: is part 3 of 3 by its metadata, and part 2 of 3 here/,
    );
    expect(await refusal({ 'm.gguf': files[one]! })).toMatch(
      /^m\.gguf: is part 1 of 3 by its metadata, and part 1 of 1/,
    );
    const fewer = { ...parts, tensors: Object.fromEntries(Object.entries(parts.tensors).slice(0, -1)) };
    const last = Object.keys(splitGguf('m', fewer, 4, 5))[2]!;
    expect(await refusal({ ...files, [last]: splitGguf('m', fewer, 4, 5)[last]! })).toMatch(
      /says that its parts have \d+ tensors/,
    );
    expect(await refusal({ ...files, 'other.gguf': files[one]! })).toMatch(
      /several GGUF files: m-00001.*, other\.gguf/,
    );
  });

  test('is refused by what it takes before a byte of weights is allocated', async () => {
    expect(await refusal(files, { maxBytes: 1000 })).toMatch(
      /^m-00001-of-00003\.gguf: its weights take \d+ bytes of GPU memory/,
    );
  });
});
