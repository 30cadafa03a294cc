import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { TensorFileError } from '../../../../src/frontend/embeds/file-error.ts';
import { checkEmbedsSize, readEmbeds } from '../../../../src/frontend/embeds/read-embeds.ts';
import { readSavedTensor } from '../../../../src/frontend/embeds/saved-tensor.ts';
import { readZip } from '../../../../src/frontend/embeds/zip.ts';
import { ApiError } from '../../../../src/frontend/errors.ts';
import { MAX_EMBEDS_BYTES } from '../../../../src/protocol/prompt-embeds.ts';
import { widened } from '../../../support/float-bytes.ts';
import { torchFile } from '../../../support/torch-file.ts';

const folder = new URL('../../../fixtures/torch/', import.meta.url);
const read = (name: string) => new Uint8Array(readFileSync(new URL(name, folder)));
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const expected = z
  .record(z.string(), z.object({ shape: z.array(z.number()), values: z.array(z.number()) }))
  .parse(JSON.parse(readFileSync(new URL('expected.json', folder), 'utf8')));
const names = readdirSync(folder)
  .filter((name) => name.endsWith('.pt'))
  .map((name) => name.slice(0, -'.pt'.length));
const HIDDEN = 4;

const refusal = (bytes: Uint8Array, hidden = HIDDEN): ApiError => {
  try {
    readEmbeds(base64(bytes), 'prompt_embeds', hidden);
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  throw new Error('it was read');
};

describe("PyTorch's own files", () => {
  test.each(Object.entries(expected))('%s: the values that PyTorch has', (name, { shape, values }) => {
    const embeds = readEmbeds(base64(read(`${name}.pt`)), 'prompt_embeds', HIDDEN);
    expect(embeds.tokens).toBe(shape.at(-2));
    expect(widened(embeds.bytes, embeds.dtype)).toEqual(values);
  });

  test.each([
    ['float64', /"torch\.DoubleStorage", and float32, float16 or bfloat16/],
    ['int64', /"torch\.LongStorage"/],
    ['one-dimension', /its shape is \[4\]/],
    ['batch-of-two', /its shape is \[2, 3, 4\], and \[tokens, 4\] or \[1, tokens, 4\]/],
    ['no-tokens', /no tokens/],
    ['nan-float32', /value 1 of token 0 is not finite/],
    ['infinity-float16', /value 1 of token 0 is not finite/],
    ['infinity-bfloat16', /value 1 of token 0 is not finite/],
    ['parameter', /"torch\._utils\._rebuild_parameter"/],
    ['sparse', /"torch\.serialization\._get_layout"/],
    ['list', /opcode 0x5d/],
    ['dict', /opcode|no tensor/],
    ['number', /no tensor/],
    ['module', /opcode 0x81|"torch\.nn/],
    ['legacy', /no zip archive/],
    ['protocol-4', /protocol 4/],
  ])('%s is refused', (name, why) => {
    const error = refusal(read(`${name}.pt`));
    expect(error).toMatchObject({ status: 400, param: 'prompt_embeds' });
    expect(error.message).toMatch(why);
    expect(error.message).toMatch(/^'prompt_embeds' cannot be read: .*[^.]\.$/s);
  });

  test('each file is either read or refused above', () => {
    expect(names.length).toBe(Object.keys(expected).length + 16);
  });

  test('rows of another width are refused with both widths', () => {
    expect(refusal(read('float32.pt'), 128).message).toMatch(
      /rows have 4 values, and the embeddings of this model have 128/,
    );
  });
});

describe('changed files', () => {
  const at = (bytes: Uint8Array, text: string) => {
    const found = Buffer.from(bytes).indexOf(text, 0, 'latin1');
    if (found < 0) throw new Error(`${text} is not there`);
    return found;
  };
  const changed = (change: (bytes: Uint8Array, view: DataView) => void) => {
    const bytes = read('float32.pt');
    change(bytes, new DataView(bytes.buffer));
    return refusal(bytes).message;
  };
  const DIRECTORY = 'PK\x01\x02';

  test('a big-endian one', () => {
    const big = (bytes: Uint8Array) => bytes.set(new TextEncoder().encode('biggie'), at(bytes, 'little'));
    expect(changed(big)).toMatch(/not little-endian/);
  });

  test('a compressed entry is refused, not inflated', () => {
    const deflated = (bytes: Uint8Array, view: DataView) => view.setUint16(at(bytes, DIRECTORY) + 10, 8, true);
    expect(changed(deflated)).toMatch(/"float32\/data\.pkl" is compressed/);
  });

  test('sizes of zip64', () => {
    expect(
      changed((bytes, view) => {
        view.setUint32(at(bytes, DIRECTORY) + 20, 0xffffffff, true);
        view.setUint32(at(bytes, DIRECTORY) + 24, 0xffffffff, true);
      }),
    ).toMatch(/zip64/);
  });

  test('an encrypted entry', () => {
    const encrypted = (bytes: Uint8Array, view: DataView) => view.setUint16(at(bytes, DIRECTORY) + 8, 1, true);
    expect(changed(encrypted)).toMatch(/encrypted/);
  });

  test('two entries of one name', () => {
    const twice = (bytes: Uint8Array) => {
      const names = Buffer.from(bytes).lastIndexOf('float32/data/0', undefined, 'latin1');
      bytes.set(new TextEncoder().encode('float32/same00'), names);
      const version = Buffer.from(bytes).lastIndexOf('float32/version', undefined, 'latin1');
      const view = new DataView(bytes.buffer);
      view.setUint16(version - 46 + 28, 14, true);
      // The letter that is left over becomes the entry's extra field.
      view.setUint16(version - 46 + 30, 1, true);
      bytes.set(new TextEncoder().encode('float32/same00'), version);
    };
    expect(changed(twice)).toMatch(/two entries "float32\/same00"/);
  });

  test('a zip64 end that says something else than the end', () => {
    const other = (bytes: Uint8Array, view: DataView) => view.setUint32(at(bytes, 'PK\x06\x06') + 48, 0, true);
    expect(changed(other)).toMatch(/not where its end says/);
  });

  test('more values than the storage has', () => {
    // BININT1 3, BININT1 4, TUPLE2: the shape.
    const shape = (bytes: Uint8Array) => bytes.set([200], at(bytes, 'K\x03K\x04\x86') + 1);
    expect(changed(shape)).toMatch(/reach element 799 of 12/);
  });

  test('a storage that is not as long as it says', () => {
    const count = (bytes: Uint8Array) => bytes.set([13], at(bytes, 'K\x0ct') + 1);
    expect(changed(count)).toMatch(/48 bytes, and 13 of f32 are 52/);
  });

  test('a call of anything else is named, and not made', () => {
    const named = (bytes: Uint8Array) =>
      bytes.set(new TextEncoder().encode('posix.util\nsystem_of_thi'), at(bytes, 'torch._utils\n_rebuild_te'));
    expect(changed(named)).toMatch(/"posix\.util\.system_of_thinsor_v2"/);
  });

  test('a key that leaves the folder finds nothing', () => {
    const key = (bytes: Uint8Array) => bytes.set(new TextEncoder().encode('/'), at(bytes, 'X\x01\0\0\x000') + 5);
    expect(changed(key)).toMatch(/has no "data\/\/"/);
  });
});

describe('any bytes', () => {
  const files = names.map((name) => read(`${name}.pt`));
  /** A real file with bytes changed, cut out or put in. */
  const mutated = fc
    .tuple(
      fc.constantFrom(...files),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }), fc.constantFrom('set', 'cut', 'insert', 'end')), {
        minLength: 1,
        maxLength: 8,
      }),
    )
    .map(([file, changes]) => {
      const bytes = [...file];
      for (const [where, value, kind] of changes) {
        const place = where % Math.max(1, bytes.length);
        if (kind === 'set') bytes[place] = value;
        else if (kind === 'cut') bytes.splice(place, 1 + (value % 16));
        else if (kind === 'insert') bytes.splice(place, 0, value);
        // Numbers of the directory are near the end.
        else bytes[Math.max(0, bytes.length - 1 - (where % 700))] = value;
      }
      return Uint8Array.from(bytes);
    });

  test('mutated files are read as something finite and whole, or refused', () => {
    let refused = 0;
    fc.assert(
      fc.property(mutated, (bytes) => {
        try {
          const { dtype, tokens, bytes: values } = readEmbeds(base64(bytes), 'prompt_embeds', HIDDEN);
          const floats = widened(values, dtype);
          expect(floats).toHaveLength(tokens * HIDDEN);
          expect(floats.every(Number.isFinite)).toBe(true);
        } catch (error) {
          expect(error).toMatchObject({ name: 'ApiError', status: 400, param: 'prompt_embeds' });
          refused++;
        }
      }),
      { numRuns: 3000 },
    );
    expect(refused).toBeGreaterThan(0);
  });

  test('noise is refused by each reader', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => readZip(bytes)).toThrow(TensorFileError);
        expect(() => readSavedTensor(bytes)).toThrow(TensorFileError);
      }),
    );
  });
});

describe('the text around it', () => {
  test.each(['', '=', 'AAA', 'AA-_', 'AAAA\n', 'AAAA AAAA', '====', 'ÄAAA'])('%j is refused', (text) => {
    expect(() => readEmbeds(text, 'prompt_embeds[1]', HIDDEN)).toThrow(/^'prompt_embeds\[1\]' cannot be read: it is/);
  });

  test('15 MiB are taken, one byte more is not; together, and before anything is decoded', () => {
    const most = '!'.repeat((MAX_EMBEDS_BYTES / 3) * 4);
    expect(() => checkEmbedsSize([most])).not.toThrow();
    const beyond = expect.objectContaining({ status: 413, code: 'request_too_large', param: 'prompt_embeds' });
    expect(() => checkEmbedsSize([`${most}!!==`])).toThrow(beyond);
    expect(() => checkEmbedsSize([most.slice(4), '!!!!', '!!=='])).toThrow(beyond);
  });

  test('one row that is said a million times is refused before it is copied', () => {
    const often = { dtype: 'f16', shape: [1_000_000, HIDDEN], strides: [0, 1], data: new Uint8Array(8) } as const;
    expect(readSavedTensor(torchFile(often)).shape).toEqual([1_000_000, HIDDEN]);
    expect(readEmbeds(base64(torchFile({ ...often, shape: [1000, HIDDEN] })), 'prompt_embeds', HIDDEN).tokens).toBe(
      1000,
    );
    expect(refusal(torchFile({ ...often, shape: [2_000_000, HIDDEN] })).message).toMatch(/16000000 bytes/);
  });
});
