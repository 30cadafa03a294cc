import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, ROOT } from './fixture.ts';

/** The built page with its worker's script changed. */
export async function changedPage(folder: string, change: (script: string) => string): Promise<string> {
  const page = path.join(folder, 'page');
  await cp(path.join(ROOT, 'dist/page'), page, { recursive: true });
  const assets = path.join(page, 'assets');
  const worker = (await readdir(assets)).find((name) => /^worker-.*\.js$/.test(name));
  if (worker === undefined) throw new Error(`The build has no worker in ${assets}.`);
  const script = await readFile(path.join(assets, worker), 'utf8');
  const changed = change(script);
  expect(changed).not.toBe(script);
  await writeFile(path.join(assets, worker), changed);
  return page;
}
