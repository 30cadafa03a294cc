import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** The page for a hub, or the one that needs none. */
export type BuildMode = 'page' | 'solo';

/** What a build depends on, beside the folder of models that the solo page takes along. */
const INPUTS = ['src', 'shaders', 'index.html', 'vite.config.ts', 'tsconfig.json', 'package-lock.json'];

/** SHA-256 over the paths and bytes of all inputs of a build, hex. */
export function sourceHash(root: string, mode: BuildMode): string {
  const hash = createHash('sha256');
  const inputs = mode === 'solo' ? [...INPUTS, 'models'] : INPUTS;
  for (const file of inputs.flatMap((input) => filesUnder(root, input))) {
    const bytes = readFileSync(path.join(root, file));
    hash.update(`${file}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest('hex');
}

function filesUnder(root: string, name: string): string[] {
  const full = path.join(root, name);
  if (!existsSync(full)) return [];
  const entries = readdirSync(path.dirname(full), { withFileTypes: true });
  if (entries.some((e) => e.name === path.basename(full) && e.isFile())) return [name];
  return readdirSync(full, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'))
    .sort();
}

/** Folder of a built page. */
export const builtFolder = (root: string, mode: BuildMode): string => path.join(root, 'dist', mode);

const hashFile = (root: string, mode: BuildMode): string => path.join(root, 'dist', `.build-hash-${mode}`);

/** Whether sources changed since the last whole build. */
export function isStale(root: string, mode: BuildMode): boolean {
  const file = hashFile(root, mode);
  if (!existsSync(file) || !existsSync(path.join(builtFolder(root, mode), 'index.html'))) return true;
  return readFileSync(file, 'utf8') !== sourceHash(root, mode);
}

/** Builds the page with vite. The hash is written last, so that a build that broke off is stale. */
export async function build(root: string, mode: BuildMode): Promise<void> {
  rmSync(hashFile(root, mode), { force: true });
  const hash = sourceHash(root, mode);
  const vite = await import('vite');
  await vite.build({ root, mode: mode === 'solo' ? 'solo' : 'production', logLevel: 'warn' });
  mkdirSync(path.join(root, 'dist'), { recursive: true });
  writeFileSync(hashFile(root, mode), hash);
}
