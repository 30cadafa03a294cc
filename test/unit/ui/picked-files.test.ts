import { describe, expect, test } from 'vitest';
import { pickedFrom, pickedFromDrop } from '../../../src/ui/picked-files.ts';

const named = (name: string, path = ''): File =>
  Object.defineProperty(new File([], name), 'webkitRelativePath', { value: path });

/** A dropped folder as browsers give it: its entries in batches, the last one empty. */
function folder(name: string, batches: readonly (readonly string[])[]): FileSystemDirectoryEntry {
  const left = [...batches, []];
  const fileIn = (path: string, _: object, done: (found: unknown) => void) => done(entry(path));
  const entry = (path: string) =>
    path.endsWith('/')
      ? { isFile: false, isDirectory: true, name: path.slice(0, -1), getFile: fileIn }
      : { isFile: true, isDirectory: false, name: path, file: (done: (file: File) => void) => done(named(path)) };
  return {
    isFile: false,
    isDirectory: true,
    name,
    createReader: () => ({ readEntries: (done: (entries: unknown[]) => void) => done(left.shift()!.map(entry)) }),
  } as unknown as FileSystemDirectoryEntry;
}

const items = (...dropped: readonly (File | FileSystemDirectoryEntry)[]): Pick<DataTransfer, 'items'> =>
  ({
    items: dropped.map((each) => ({
      kind: 'file',
      webkitGetAsEntry: () => (each instanceof File ? null : each),
      getAsFile: () => (each instanceof File ? each : named(each.name)),
    })),
  }) as unknown as Pick<DataTransfer, 'items'>;

const namesOf = ({ files }: { readonly files: readonly File[] }) => files.map((file) => file.name);

test('the pooling module of a model for embeddings comes with it, and no other folder', async () => {
  const paths = [
    'config.json',
    'modules.json',
    '1_Pooling/config.json',
    '1_Pooling/old/config.json',
    'onnx/config.json',
  ];
  const chosen = pickedFrom(paths.map((path) => named(path.split('/').at(-1)!, `e5/${path}`)));
  expect(namesOf(chosen)).toEqual(['config.json', 'modules.json', '1_Pooling/config.json']);
  const dropped = await pickedFromDrop(items(folder('e5', [['config.json', '1_Pooling/', '2_Normalize/', 'onnx/']])));
  expect(namesOf(dropped)).toEqual(['config.json', '1_Pooling/config.json']);
});

describe('a file dialog', () => {
  test('gives files, or the first level of a folder, by whose name the model goes', () => {
    expect(pickedFrom([named('config.json')]).name).toBe('local-model');
    expect(pickedFrom([named('Qwen3 0.6B-Q8_0.gguf')]).name).toBe('Qwen3-0.6B-Q8_0');
    const parts = ['big-00002-of-00002.gguf', 'big-00001-of-00002.gguf'].map((name) => named(name));
    expect(pickedFrom(parts).name).toBe('big');
    const picked = pickedFrom([named('config.json', 'My model/config.json'), named('x.bin', 'My model/onnx/x.bin')]);
    expect(picked.name).toBe('My-model');
    expect(namesOf(picked)).toEqual(['config.json']);
  });
});

describe('a drop', () => {
  test('of files', async () => {
    expect(namesOf(await pickedFromDrop(items(named('a'), named('b'))))).toEqual(['a', 'b']);
  });

  test('of a folder: its files, however many times a browser wants to be asked', async () => {
    const picked = await pickedFromDrop(items(folder('tiny', [['a', 'onnx/'], ['b']])));
    expect(picked.name).toBe('tiny');
    expect(namesOf(picked)).toEqual(['a', 'b']);
  });

  test('of several things is refused, as is a folder of thousands of files', async () => {
    await expect(pickedFromDrop(items(folder('a', []), folder('b', [])))).rejects.toThrow(/More than one thing/);
    await expect(pickedFromDrop(items(folder('a', []), named('b')))).rejects.toThrow(/More than one thing/);
    const many = Array.from({ length: 50 }, (_, i) => Array.from({ length: 100 }, (_, j) => `${i}-${j}`));
    await expect(pickedFromDrop(items(folder('home', many)))).rejects.toThrow(/home has more than 4096 files/);
  });
});
