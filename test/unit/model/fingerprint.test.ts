import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { fingerprint } from '../../../src/protocol/fingerprint.ts';

const file = (path: string, text: string) => ({ path, sha256: createHash('sha256').update(text).digest('hex') });
const config = file('config.json', '{}');
const first = file('model-00001-of-00002.safetensors', 'a');
const second = file('model-00002-of-00002.safetensors', 'b');

test('is what sha256sum says of the list that sha256sum prints', async () => {
  const list = `${config.sha256}  config.json\n${first.sha256}  ${first.path}\n${second.sha256}  ${second.path}\n`;
  const [hex] = execFileSync('sha256sum', { input: list }).toString().split(' ');
  expect(await fingerprint([config, first, second])).toBe(hex);
});

test('does not depend on the order of the files, nor on files that are no weights', async () => {
  const expected = await fingerprint([config, first, second]);
  expect(await fingerprint([second, file('tokenizer.json', 'x'), first, config])).toBe(expected);
});

test('changes with any byte of config or weights, and with a name', async () => {
  const expected = await fingerprint([config, first]);
  expect(await fingerprint([file('config.json', '{ }'), first])).not.toBe(expected);
  expect(await fingerprint([config, file(first.path, 'A')])).not.toBe(expected);
  expect(await fingerprint([config, { ...first, path: 'model.safetensors' }])).not.toBe(expected);
});

test('of a GGUF file, or of all its parts, is by their bytes and names too', async () => {
  const parts = [file('m-00001-of-00002.gguf', 'a'), file('m-00002-of-00002.gguf', 'b')];
  const list = parts.map(({ path, sha256 }) => `${sha256}  ${path}\n`).join('');
  expect(await fingerprint([...parts].reverse())).toBe(createHash('sha256').update(list).digest('hex'));
  await expect(fingerprint([...parts, config])).rejects.toThrow(/needs a config\.json/);
});

test('a folder without a config or without weights has none', async () => {
  await expect(fingerprint([first])).rejects.toThrow(/needs a config\.json .* found model-00001/);
  await expect(fingerprint([config])).rejects.toThrow(/needs a config\.json/);
});
