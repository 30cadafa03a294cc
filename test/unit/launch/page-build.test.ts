import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { builtFolder, isStale, sourceHash } from '../../../src/hub/launch/page-build.ts';

let root = '';
const write = (file: string, text: string): void => {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), text);
};

beforeEach(() => {
  root = mkdtempSync(path.join(os.tmpdir(), 'quire-build-'));
  write('src/a/b.ts', 'one');
  write('src/c.ts', 'two');
  write('shaders/x.wgsl', 'three');
  write('index.html', 'four');
  write('package-lock.json', '{}');
  write('models/m/config.json', '{}');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test.each(['src/a/b.ts', 'src/new.ts', 'shaders/x.wgsl', 'index.html', 'package-lock.json', 'vite.config.ts'])(
  'a change of %s changes the hash',
  (file) => {
    const before = sourceHash(root, 'page');
    write(file, 'changed');
    expect(sourceHash(root, 'page')).not.toBe(before);
  },
);

test('moved bytes and moved names change the hash', () => {
  const before = sourceHash(root, 'page');
  write('src/a/b.ts', 'onetwo');
  write('src/c.ts', '');
  const moved = sourceHash(root, 'page');
  rmSync(path.join(root, 'src/c.ts'));
  write('src/d.ts', '');
  expect(new Set([before, moved, sourceHash(root, 'page')]).size).toBe(3);
});

test('what no page is made of leaves the hash alone; the model is part of the solo page only', () => {
  const page = sourceHash(root, 'page');
  const solo = sourceHash(root, 'solo');
  write('README.md', 'new');
  write('test/x.test.ts', 'new');
  write('models/m/config.json', '{"new":1}');
  expect(sourceHash(root, 'page')).toBe(page);
  expect(sourceHash(root, 'solo')).not.toBe(solo);
});

test('stale: never built, built from other sources, or half built', () => {
  expect(isStale(root, 'page')).toBe(true);
  const hash = sourceHash(root, 'page');
  write('dist/.build-hash-page', hash);
  expect(isStale(root, 'page')).toBe(true);
  write(path.relative(root, path.join(builtFolder(root, 'page'), 'index.html')), '');
  expect(isStale(root, 'page')).toBe(false);
  expect(isStale(root, 'solo')).toBe(true);
  write('src/c.ts', 'changed');
  expect(isStale(root, 'page')).toBe(true);
});
