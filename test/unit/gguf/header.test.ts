import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { chunksOf } from '../../../src/engine/files/stream.ts';
import { type GgufHeader, readGgufHeader } from '../../../src/engine/gguf/header.ts';
import { ChunkReader } from '../../../src/engine/weights/chunk-reader.ts';
import { streamOf } from '../../support/folder-files.ts';
import { GGML_TYPE, type GgufParts, ggufFile, text } from '../../support/gguf-file.ts';

const PARTS: GgufParts = {
  metadata: {
    'general.architecture': 'llama',
    'llama.block_count': 2,
    'llama.rope.freq_base': 0.5,
    'tokenizer.ggml.tokens': ['a', 'é', ''],
    'tokenizer.ggml.token_type': { i32: [1, -1, 3] },
    'tokenizer.ggml.scores': { f32: [-1.5, 0, 2] },
    'tokenizer.ggml.add_bos_token': true,
  },
  tensors: {
    'a.weight': { type: GGML_TYPE.Q8_0, shape: [2, 64], bytes: new Uint8Array(4 * 34).fill(7) },
    'b.weight': { type: GGML_TYPE.F32, shape: [3], bytes: new Uint8Array(12).fill(8) },
    'c.weight': { type: GGML_TYPE.Q4_K, shape: [2, 1, 256], bytes: new Uint8Array(2 * 144).fill(9) },
  },
};
const FILE = ggufFile(PARTS);

const read = (file: Uint8Array, chunks?: number[], keep = (_: string) => true): Promise<GgufHeader> =>
  readGgufHeader(new ChunkReader(chunksOf(streamOf(file, chunks))), file.byteLength, 'x.gguf', keep);

async function refusal(file: Uint8Array): Promise<string> {
  const error = await read(file).then(
    () => null,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(EngineError);
  expect((error as EngineError).code).toBe('model');
  return (error as EngineError).message;
}

const le = (bytes: 4 | 8, n: number | bigint) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b.subarray(0, bytes);
};
const patched = (at: number, bytes: Uint8Array): Uint8Array => {
  const copy = Uint8Array.from(FILE);
  copy.set(bytes, at);
  return copy;
};
/** Byte behind the first place where `name` stands. */
const behind = (name: string) => Buffer.from(FILE).indexOf(name) + name.length;

describe('a header', () => {
  test('has metadata, and tensors with their places', async () => {
    const { metadata, tensors, bytes } = await read(FILE);
    expect(Object.fromEntries(metadata)).toEqual({
      'general.architecture': 'llama',
      'llama.block_count': 2,
      'llama.rope.freq_base': 0.5,
      'tokenizer.ggml.tokens': ['a', 'é', ''],
      'tokenizer.ggml.token_type': [1, -1, 3],
      'tokenizer.ggml.scores': [-1.5, 0, 2],
      'tokenizer.ggml.add_bos_token': true,
    });
    const start = Math.ceil(bytes / 32) * 32;
    expect(tensors).toEqual([
      { name: 'a.weight', dtype: 'Q8_0', shape: [2, 64], begin: start, end: start + 136 },
      { name: 'b.weight', dtype: 'F32', shape: [3], begin: start + 160, end: start + 172 },
      { name: 'c.weight', dtype: 'Q4_K', shape: [2, 1, 256], begin: start + 192, end: start + 480 },
    ]);
    for (const [tensor, fill] of [7, 8, 9].map((f, i) => [tensors[i]!, f] as const))
      expect([...FILE.subarray(tensor.begin, tensor.end)].every((b) => b === fill)).toBe(true);
  });

  test('is the same however its stream is cut, in version 2, and with another alignment', async () => {
    const whole = await read(FILE);
    for (let at = 1; at < whole.bytes; at++) expect(await read(FILE, [at, FILE.byteLength])).toEqual(whole);
    expect(await read(ggufFile({ ...PARTS, version: 2 }))).toEqual(whole);
    const wide = await read(ggufFile({ ...PARTS, alignment: 4096 }));
    expect(wide.tensors.map((t) => t.begin % 4096)).toEqual([0, 0, 0]);
    expect(wide.tensors[2]!.begin - wide.tensors[0]!.begin).toBe(8192);
  });

  test('leaves out what is not wanted', async () => {
    const { metadata, tensors } = await read(FILE, undefined, (key) => key.startsWith('llama.'));
    expect([...metadata.keys()]).toEqual(['llama.block_count', 'llama.rope.freq_base']);
    expect(tensors).toHaveLength(3);
  });
});

describe('a file that is not as it should be is refused', () => {
  test('cut short at any byte', async () => {
    for (let length = 0; length < FILE.byteLength - 32; length++) {
      const error = await read(FILE.subarray(0, length)).catch((e: unknown) => e);
      if (!(error instanceof EngineError)) expect.fail(`${length} bytes: ${String(error)}`);
    }
  });

  const long = 2n ** 62n;
  test.each([
    ['another format', patched(0, Buffer.from('GGML')), 'does not begin with "GGUF"'],
    ['version 1', patched(4, le(4, 1)), 'has version 1'],
    ['big-endian', patched(4, Buffer.of(0, 0, 0, 3)), 'is big-endian'],
    ['endless tensors', patched(8, le(8, long)), `says that it has ${long} tensors`],
    ['endless metadata', patched(16, le(8, long)), `says that it has ${long} metadata entries`],
    ['an endless key', patched(24, le(8, long)), `says that it has ${long} bytes of a text`],
    ['an endless text', patched(behind('general.architecture') + 4, le(8, long)), `${long} bytes of a text`],
    ['a text beyond the file', patched(behind('general.architecture') + 4, le(8, 5e6)), 'where the file ends'],
    ['an endless array', patched(behind('tokenizer.ggml.tokens') + 8, le(8, long)), 'values of tokenizer.ggml.tokens'],
    ['an array of arrays', patched(behind('tokenizer.ggml.tokens') + 4, le(4, 9)), 'is an array of arrays'],
    ['a value of no type', patched(behind('llama.block_count'), le(4, 99)), 'has type 99'],
    ['a key that is no UTF-8', patched(behind('llama.b') - 2, Buffer.of(0xff)), 'not UTF-8'],
    ['no dimensions', patched(behind('a.weight'), le(4, 0)), 'a.weight: has 0 dimensions'],
    ['many dimensions', patched(behind('a.weight'), le(4, 2 ** 31)), 'a.weight: has 2147483648 dimensions'],
    ['a size beyond 2^53', patched(behind('a.weight') + 4, le(8, 2n ** 53n)), 'numbers in a dimension'],
    ['more bytes than 2^53', patched(behind('a.weight') + 4, le(8, 2n ** 52n)), 'more than any file has'],
    ['broken blocks', patched(behind('a.weight') + 4, le(8, 33)), 'a.weight: has rows of 33 numbers'],
    ['more bytes than the file', patched(behind('c.weight') + 12, le(8, 2n ** 40n)), 'Is it cut short?'],
    ['an unsupported type', patched(behind('a.weight') + 20, le(4, GGML_TYPE.Q2_K)), 'is stored as Q2_K'],
    ['an unknown type', patched(behind('a.weight') + 20, le(4, 777)), 'is stored as type 777'],
    ['a hole', patched(behind('b.weight') + 16, le(8, 192)), 'leaves a hole before it'],
    ['an overlap', patched(behind('b.weight') + 16, le(8, 64)), 'overlaps the tensor before it'],
  ])('%s', async (_, file, message) => {
    expect(await refusal(file)).toContain(message);
  });

  test('more bytes than its tensors', async () => {
    expect(await refusal(Buffer.concat([FILE, new Uint8Array(32)]))).toContain('Is it cut short?');
  });

  test('an integer beyond 2^53, an alignment that is no power of two, keys and tensors that are there twice', async () => {
    const head = (entries: Buffer[], count: number, tensors = 0, infos: Buffer[] = []) =>
      Buffer.concat([
        Buffer.from('GGUF'),
        le(4, 3),
        le(8, tensors),
        le(8, count),
        ...entries,
        ...infos,
        new Uint8Array(64),
      ]);
    const entry = (key: string, type: number, value: Buffer) => Buffer.concat([text(key), le(4, type), value]);
    expect(await refusal(head([entry('n', 10, le(8, 2n ** 60n))], 1))).toContain('integers up to 2^53');
    expect(await refusal(head([entry('general.alignment', 4, le(4, 24))], 1))).toContain('general.alignment is 24');
    const a = entry('a', 4, le(4, 1));
    expect(await refusal(head([a, a], 2))).toContain('have a twice');
    const info = (offset: number) => Buffer.concat([text('t'), le(4, 1), le(8, 4), le(4, 0), le(8, offset)]);
    expect(await refusal(head([], 0, 2, [info(0), info(32)]))).toContain('tensor t twice');
  });

  test('with any bytes changed it is read or refused in words, never anything else', async () => {
    const { bytes } = await read(FILE);
    const change = fc.record({ at: fc.nat(bytes - 1), to: fc.integer({ min: 0, max: 255 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
        const copy = Uint8Array.from(FILE);
        for (const { at, to } of changes) copy[at] = to;
        const error = await read(copy).then(
          () => null,
          (e: unknown) => e,
        );
        if (error !== null) expect(error).toBeInstanceOf(EngineError);
      }),
      { numRuns: 500 },
    );
  });
});
