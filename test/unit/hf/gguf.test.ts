import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { type GgufParts, ggufFile, splitGguf } from '../../support/gguf-file.ts';
import { COMMIT } from '../../support/model-source.ts';
import { picoParts } from '../../support/pico-gguf.ts';
import { fetchTiny, folderOf, lines, refusal, source } from './fetching.ts';

const parts = picoParts('Q8_0');
const file = Buffer.from(ggufFile(parts));
/** Of the file: what is read before it comes, at most. */
const HEADER_RANGE = 256 * 1024;

const give = (files: Record<string, Uint8Array>) => {
  source.files.clear();
  for (const [name, bytes] of Object.entries({ 'README.md': Buffer.from('x'), ...files }))
    source.files.set(name, Buffer.from(bytes));
};
const given = (): number => source.asks('.gguf').reduce((sum, { bytes }) => sum + bytes, 0);
const withMetadata = (more: GgufParts['metadata']) =>
  Buffer.from(ggufFile({ ...parts, metadata: { ...parts.metadata, ...more } }));

beforeEach(() =>
  give({ 'pico-Q8_0.gguf': file, 'pico-Q4_0.gguf': Buffer.from('never read'), 'mmproj-pico-F16.gguf': file }),
);

describe('a GGUF file by name', () => {
  test('is chosen by the end of its name, checked by its header, and comes with its hash', async () => {
    const { folder, hashes } = await fetchTiny({ gguf: 'q8_0' });
    expect(folder).toBe(`${folderOf()}.q8_0`);
    expect((await readdir(folder)).sort()).toEqual(['.quire.json', 'pico-Q8_0.gguf']);
    expect((await readFile(path.join(folder, 'pico-Q8_0.gguf'))).equals(file)).toBe(true);
    expect([...hashes]).toEqual([['pico-Q8_0.gguf', createHash('sha256').update(file).digest('hex')]]);
    const [first, ...others] = source.asks('signed');
    expect(first?.range).toBe(`bytes=0-${HEADER_RANGE - 1}`);
    expect(others.at(-1)?.range).toBeUndefined();
    expect(given()).toBeLessThanOrEqual(file.length + HEADER_RANGE);
    expect(source.asks('Q4_0')).toEqual([]);

    source.asked.length = 0;
    expect(await fetchTiny({ gguf: 'q8_0', revision: COMMIT })).toEqual({ folder, hashes });
    expect(source.asked).toEqual([]);
  });

  test.each(['pico-Q8_0', 'pico-Q8_0.gguf', 'Q8_0'])('or by %s', async (gguf) => {
    expect([...(await fetchTiny({ gguf })).hashes.keys()]).toEqual(['pico-Q8_0.gguf']);
  });

  test('alone needs no choice, and safetensors come before it', async () => {
    give({ 'pico-Q8_0.gguf': file, 'mmproj-pico-F16.gguf': file });
    expect((await fetchTiny()).folder).toBe(folderOf());
    expect(source.asks('mmproj')).toEqual([]);
    give({ 'pico-Q8_0.gguf': file, 'model.safetensors': file });
    expect(await refusal({ downloadDir: `${folderOf()}-other` })).toMatch(/no config\.json/);
  });

  test('in parts comes whole, each with its hash', async () => {
    const split = splitGguf('pico-Q8_0', parts, 0, 20);
    give({ ...split, 'pico-Q4_0-00001-of-00002.gguf': file });
    const { folder, hashes } = await fetchTiny({ gguf: 'Q8_0' });
    expect([...hashes.keys()]).toEqual(Object.keys(split));
    for (const [name, bytes] of Object.entries(split))
      expect((await readFile(path.join(folder, name))).equals(bytes)).toBe(true);
    expect(lines.some((line) => /^org\/tiny: [\d.]+ MB of weights, commit/.test(line))).toBe(true);
    expect(await refusal({ gguf: 'Q4_0' })).toMatch(/it lacks pico-Q4_0-00002-of-00002\.gguf\. A split model/);
  });
});

describe('what is not to be had is refused before a file comes', () => {
  test('several without a choice, a choice of none, and one of several: with a list', async () => {
    expect(await refusal()).toMatch(/several GGUF files: pico-Q4_0, pico-Q8_0\. Choose one .*--model org\/name:Q4_0/);
    expect(await refusal({ gguf: 'Q5_K_M' })).toMatch(/no GGUF file whose name ends in Q5_K_M\. There are: /);
    expect(await refusal({ gguf: '0' })).toMatch(/no GGUF file whose name ends in 0/);
    give({ 'a-Q8_0.gguf': file, 'b-Q8_0.gguf': file, 'mmproj-a-F16.gguf': file });
    expect(await refusal({ gguf: 'Q8_0' })).toMatch(
      /several GGUF files whose name ends in Q8_0\. There are: a-Q8_0, b-Q8_0/,
    );
    // An image encoder is no model.
    expect(await refusal({ gguf: 'F16' })).toMatch(/no GGUF file whose name ends in F16\. There are: a-Q8_0, b-Q8_0\./);
    give({ 'config.json': Buffer.from('{}'), '-x.gguf': file, 'a b.gguf': file });
    expect(await refusal({ gguf: 'Q8_0' })).toMatch(/no GGUF files to choose Q8_0 from/);
    expect(given()).toBe(0);
  });

  test('an architecture, by the header alone', async () => {
    give({ 'x.gguf': withMetadata({ 'general.architecture': 'mamba' }) });
    expect(await refusal()).toMatch(/x\.gguf: general\.architecture "mamba" is not supported/);
    expect(given()).toBe(HEADER_RANGE);
  });

  test('a tokenizer, unless ids alone are served', async () => {
    give({ 'x.gguf': withMetadata({ 'tokenizer.ggml.model': 'rwkv' }) });
    expect(await refusal()).toMatch(/tokenizer\.ggml\.model "rwkv" is not supported/);
    expect(given()).toBe(HEADER_RANGE);
  });

  test('other bytes than the source lists', async () => {
    source.claimed.set('pico-Q8_0.gguf', 'f'.repeat(64));
    expect(await refusal({ gguf: 'Q8_0' })).toMatch(/pico-Q8_0\.gguf/);
    expect((await readdir(`${folderOf()}.Q8_0`)).filter((name) => name.endsWith('.gguf'))).toEqual([]);
  });
});
