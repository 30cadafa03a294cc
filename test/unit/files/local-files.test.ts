import { openAsBlob } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkLocalFiles, localFiles } from '../../../src/engine/files/local-files.ts';
import { MAX_CHUNK_BYTES, readModelFile, readModelJson } from '../../../src/engine/files/source.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { splitGguf } from '../../support/gguf-file.ts';
import { picoGguf, picoParts } from '../../support/pico-gguf.ts';
import { safetensorsFile, tensorsFor } from '../../support/safetensors-file.ts';
import { PICO } from '../../support/test-hub.ts';

const stays = new AbortController().signal;
const file = async (name: string): Promise<File> => new File([await openAsBlob(path.join(PICO, name))], name);
const names = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'model.safetensors'];
const pico = await Promise.all(names.map(file));
const without = (name: string): File[] => pico.filter((each) => each.name !== name);
const text = (name: string, value: unknown): File => new File([JSON.stringify(value)], name);
const parts = splitGguf('pico', picoParts('Q8_0'), 20);
const config = JSON.parse(await readFile(path.join(PICO, 'config.json'), 'utf8')) as Record<string, unknown>;

/** What is wrong with these files. */
async function refusal(files: readonly File[]): Promise<string> {
  try {
    await checkLocalFiles(localFiles('mine', files, stays));
  } catch (error) {
    expect(error).toMatchObject({ code: 'model' });
    return (error as Error).message;
  }
  throw new Error('nothing was refused');
}

describe('files of a person’s own', () => {
  test('give the bytes that they have, from anywhere, a slice at a time', async () => {
    const files = localFiles('mine', [...pico, text('notes.json', {})], stays);
    expect(files.offer.files.map((each) => each.path)).not.toContain('notes.json');
    await checkLocalFiles(files);
    const parts: Uint8Array[] = [];
    for await (const chunk of readModelFile(files, 'model.safetensors')) {
      expect(chunk.byteLength).toBeLessThanOrEqual(MAX_CHUNK_BYTES);
      parts.push(chunk);
    }
    const whole = await readFile(path.join(PICO, 'model.safetensors'));
    expect(Buffer.concat(parts).equals(whole)).toBe(true);
    const rest = await new Response(await files.open('model.safetensors', 5_000_001)).arrayBuffer();
    expect(Buffer.from(rest).equals(whole.subarray(5_000_001))).toBe(true);
    expect(await readModelJson(files, 'config.json')).toEqual(config);
  });

  test('may be a GGUF file, or all of its parts, whatever else lies beside them', async () => {
    const files = localFiles(
      'mine',
      [new File([picoGguf('Q8_0')], 'pico.gguf'), ...without('model.safetensors')],
      stays,
    );
    expect(files.offer.files.map((each) => each.path)).toEqual(['pico.gguf']);
    await checkLocalFiles(files);
    await checkLocalFiles(
      localFiles(
        'mine',
        Object.entries(parts).map(([name, bytes]) => new File([bytes], name)),
        stays,
      ),
    );
  });

  test('of gigabytes are never read whole', async () => {
    const sliced: number[] = [];
    const huge = new Proxy(new File([''], 'model.safetensors'), {
      get: (target, key) => {
        if (key === 'size') return 5e9;
        if (key === 'slice')
          return (from: number, to: number) => {
            sliced.push(to - from);
            return new Blob([new Uint8Array(to - from)]);
          };
        return Reflect.get(target, key, target) as unknown;
      },
    });
    const files = localFiles('mine', [...without('model.safetensors'), huge], stays);
    await expect(checkLocalFiles(files)).rejects.toThrow(
      /model\.safetensors: header of 0 bytes, in a file of 5000000000/,
    );
    expect(sliced).toEqual([MAX_CHUNK_BYTES]);
  });

  test('end with the page’s wish to stop', async () => {
    const stopping = new AbortController();
    const files = localFiles('mine', pico, stopping.signal);
    const reader = (await files.open('model.safetensors', 0)).getReader();
    await reader.read();
    stopping.abort(new Error('left'));
    await expect(reader.read()).rejects.toThrow('left');
  });

  test('that cannot be read any more are named', async () => {
    const gone = new Proxy(new File(['{}'], 'config.json'), {
      get: (target, key) =>
        key === 'slice'
          ? () => ({ arrayBuffer: () => Promise.reject(new Error('NotReadableError')) })
          : (Reflect.get(target, key, target) as unknown),
    });
    expect(await refusal([...without('config.json'), gone])).toMatch(
      /^config\.json: cannot be read any more \(NotReadableError\).*Open it again/,
    );
  });
});

describe('what cannot run is refused by name', () => {
  test.each([
    ['config.json', /^mine: it has no config\.json\. Open the folder/],
    ['tokenizer.json', /^mine: it has no tokenizer\.json\./],
    ['model.safetensors', /^mine: it has no \*\.safetensors\./],
  ])('without %s', async (name, message) => {
    expect(await refusal(without(name))).toMatch(message);
  });

  test('another format', async () => {
    expect(await refusal([new File(['x'], 'tiny.onnx')])).toMatch(
      /no config\.json, no tokenizer\.json, no \*\.safetensors\. tiny\.onnx is of a format that is not read here.*or a GGUF file/,
    );
  });

  test("a GGUF file that is none, two of them, a part without the others, parts under each other's names", async () => {
    expect(await refusal([new File(['GGUF'], 'tiny.Q4_0.gguf')])).toMatch(/^tiny\.Q4_0\.gguf: .*cut short/);
    const [a, b] = Object.entries(parts).map(([name, bytes]) => new File([bytes], name));
    expect(await refusal([new File([], 'a.gguf'), new File([], 'b.gguf')])).toMatch(
      /several GGUF files: a\.gguf, b\.gguf/,
    );
    expect(await refusal([b!])).toMatch(/it lacks pico-00001-of-00002\.gguf, one of its 2 parts/);
    expect(await refusal([new File([a!], b!.name), new File([b!], a!.name)])).toMatch(
      /^pico-00001-of-00002\.gguf: is part 2 of 2 by its metadata, and part 1 of 2 here/,
    );
  });

  test('two models at once', async () => {
    expect(await refusal([...pico, await file('config.json')])).toMatch(/two files are named config\.json/);
  });

  test('an architecture', async () => {
    const other = text('config.json', { ...config, model_type: 'mamba' });
    expect(await refusal([...without('config.json'), other])).toMatch(/model_type "mamba" is not supported/);
  });

  test('a shard that is missing, and a dtype in the second one', async () => {
    const tensors = tensorsFor(modelSpec(config), 'BF16');
    const [first, ...rest] = Object.keys(tensors);
    const weight_map = Object.fromEntries(Object.keys(tensors).map((name) => [name, name === first ? 'a' : 'b']));
    for (const name of Object.keys(weight_map)) weight_map[name] += '.safetensors';
    const index = text('model.safetensors.index.json', { weight_map });
    const a = new File([safetensorsFile({ [first!]: tensors[first!]! }) as Uint8Array<ArrayBuffer>], 'a.safetensors');
    const small = without('model.safetensors');
    expect(await refusal([...small, index, a])).toMatch(/names b\.safetensors, and there is no such file/);
    const odd = { [rest[0]!]: { ...tensors[rest[0]!]!, dtype: 'I8' as 'F32' } };
    const b = new File([safetensorsFile(odd) as Uint8Array<ArrayBuffer>], 'b.safetensors');
    expect(await refusal([...small, index, a, b])).toMatch(/b\.safetensors: tensor .*: dtype I8 is not supported/);
  });
});
