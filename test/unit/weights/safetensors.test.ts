import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { headerLength, MAX_HEADER_BYTES, parseHeader, shardNames } from '../../../src/engine/weights/safetensors.ts';

const encode = (header: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(header));
const entry = (dtype: string, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets });

/** Parses a header in front of `data` bytes. */
function parse(header: unknown, data: number) {
  const bytes = header instanceof Uint8Array ? header : encode(header);
  return parseHeader(bytes, 8 + bytes.byteLength + data, 'x.safetensors');
}

function refusal(header: unknown, data: number): string {
  try {
    parse(header, data);
  } catch (error) {
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).code).toBe('model');
    expect((error as EngineError).message).toContain('x.safetensors');
    return (error as EngineError).message;
  }
  throw new Error('was not refused');
}

describe('headers', () => {
  test('tensors come in the order of their bytes, with places in the file', () => {
    const header = {
      __metadata__: { format: 'pt' },
      b: entry('BF16', [2, 3], [8, 20]),
      a: entry('F32', [2], [0, 8]),
      empty: entry('F16', [0, 5], [20, 20]),
      scalar: entry('F16', [], [20, 22]),
    };
    const start = 8 + encode(header).byteLength;
    expect(parse(header, 22).map((t) => [t.name, t.begin - start, t.end - start])).toEqual([
      ['a', 0, 8],
      ['b', 8, 20],
      ['empty', 20, 20],
      ['scalar', 20, 22],
    ]);
  });

  test('the embedded model', () => {
    const file = readFileSync(new URL('../../../models/quire-pico/model.safetensors', import.meta.url));
    const length = headerLength(file.subarray(0, 8), file.byteLength, 'pico');
    const tensors = parseHeader(file.subarray(8, 8 + length), file.byteLength, 'pico');
    expect(tensors).toHaveLength(2 + 6 * 11);
    expect(tensors.find((t) => t.name === 'model.embed_tokens.weight')).toMatchObject({
      dtype: 'BF16',
      shape: [4096, 256],
    });
  });

  test.each([
    ['a hole', { a: entry('F32', [1], [4, 8]) }, 8, 'tensor a leaves a hole before it'],
    ['an overlap', { a: entry('F32', [2], [0, 8]), b: entry('F32', [1], [4, 8]) }, 8, 'tensor b overlaps'],
    ['a short file', { a: entry('F32', [2], [0, 8]) }, 7, 'Is it cut short?'],
    ['bytes behind the last tensor', { a: entry('F32', [2], [0, 8]) }, 9, 'its tensors end at byte'],
    ['a size that is not its shape', { a: entry('F32', [3], [0, 8]) }, 8, 'tensor a: F32 [3] takes 12 bytes'],
    ['offsets in the wrong order', { a: entry('F32', [2], [8, 0]) }, 8, 'tensor a'],
    ['a negative offset', { a: entry('F32', [2], [-8, 0]) }, 8, 'data_offsets'],
    ['a shape whose product overflows', { a: entry('F32', Array(8).fill(2 ** 52), [0, 8]) }, 8, 'takes'],
    ['too many dimensions', { a: entry('F32', Array(9).fill(1), [0, 4]) }, 4, 'shape'],
    ['a fraction', { a: entry('F32', [1.5], [0, 6]) }, 6, 'shape'],
    [
      'an unknown dtype',
      { a: entry('F8_E4M3', [1], [0, 1]) },
      1,
      'dtype F8_E4M3 is not supported. Supported: F32, BF16, F16',
    ],
    ['a dtype of Object', { a: entry('constructor', [1], [0, 1]) }, 1, 'dtype constructor'],
    ['no object', [1], 0, 'x.safetensors'],
    ['an entry that is no object', { a: 1 }, 0, 'tensor a'],
    ['a long name', { ['n'.repeat(513)]: entry('F32', [], [0, 4]) }, 4, 'name has 513'],
  ])('%s is refused', (_what, header, data, words) => {
    expect(refusal(header, data)).toContain(words);
  });

  test('what is not JSON, or not UTF-8, is refused', () => {
    expect(refusal(new TextEncoder().encode('{"a":'), 0)).toContain('not JSON');
    expect(refusal(new Uint8Array([0x7b, 0xff, 0x7d]), 0)).toContain('not JSON in UTF-8');
  });

  test('the length before the header is bounded by the file and by a fixed bound', () => {
    const prefix = (n: bigint) => new Uint8Array(new BigUint64Array([n]).buffer);
    expect(headerLength(prefix(100n), 108, 'f')).toBe(100);
    for (const [n, file] of [
      [101n, 108],
      [0n, 8],
      [1n << 63n, 2 ** 52],
      [BigInt(MAX_HEADER_BYTES) + 1n, 2 ** 40],
    ] as const) {
      expect(() => headerLength(prefix(n), file, 'f')).toThrow(/f: header of/);
    }
    expect(() => headerLength(new Uint8Array(5), 5, 'f')).toThrow(/f: has only 5 bytes/);
  });
});

describe('whatever the header says', () => {
  const isModelError = (run: () => unknown): boolean => {
    try {
      run();
      return true;
    } catch (error) {
      return error instanceof EngineError && error.code === 'model';
    }
  };

  test('bytes, JSON and entries of any kind parse or are refused, never crash', () => {
    const offset = fc.oneof(fc.nat(40), fc.maxSafeInteger(), fc.double());
    const likely = fc.dictionary(
      fc.oneof(fc.string(), fc.constantFrom('__proto__', '__metadata__', 'constructor')),
      fc.record({
        dtype: fc.oneof(fc.constantFrom('F32', 'BF16', 'F16', 'I64', '__proto__'), fc.string()),
        shape: fc.array(fc.oneof(fc.nat(6), fc.maxSafeInteger()), { maxLength: 9 }),
        data_offsets: fc.array(offset, { maxLength: 3 }),
      }),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          likely.map(encode),
          fc.json().map((s) => new TextEncoder().encode(s)),
          fc.uint8Array(),
        ),
        (bytes) => {
          expect(isModelError(() => parse(bytes, 40))).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('a header made of any tensors in any order gives them back', () => {
    const tensor = fc.record({
      name: fc.stringMatching(/^[a-z][a-z.0-9_]{0,20}$/),
      dtype: fc.constantFrom('F32' as const, 'BF16' as const, 'F16' as const),
      shape: fc.array(fc.nat(5), { maxLength: 4 }),
    });
    const sets = fc.uniqueArray(tensor, { selector: (t) => t.name, maxLength: 12 });
    fc.assert(
      fc.property(sets, fc.nat(), (tensors, shuffle) => {
        let at = 0;
        const placed = tensors.map((t) => {
          const begin = at;
          at += t.shape.reduce((a, b) => a * b, 1) * (t.dtype === 'F32' ? 4 : 2);
          return [t.name, entry(t.dtype, t.shape, [begin, at])] as const;
        });
        const turned = placed.map((_, i) => placed[(i + shuffle) % placed.length]!);
        const found = new Map(
          parse(Object.fromEntries(turned), at).map((t) => [t.name, { dtype: t.dtype, shape: t.shape }]),
        );
        expect(found).toEqual(new Map(tensors.map((t) => [t.name, { dtype: t.dtype, shape: t.shape }])));
      }),
    );
  });
});

describe('the index of a sharded checkpoint', () => {
  test('names each file once', () => {
    const weight_map = {
      a: 'model-00002-of-00002.safetensors',
      b: 'model-00001-of-00002.safetensors',
      c: 'model-00002-of-00002.safetensors',
    };
    expect(shardNames({ metadata: {}, weight_map }, 'i')).toEqual([weight_map.b, weight_map.a]);
  });

  test.each(['../x.safetensors', 'a/b.safetensors', '/x.safetensors', 'x.bin', '.safetensors', 'a\\b.safetensors', ''])(
    '%j is no plain name',
    (name) => {
      expect(() => shardNames({ weight_map: { a: name } }, 'i')).toThrow(/i: .* is no plain name/);
    },
  );
});
