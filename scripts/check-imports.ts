/** `npm run lint`, second half: imports one way, WGSL in shaders/ alone, no file over its length. Exit code 1 on any breach. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { breaches, type SourceFile } from './code-rules.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = ['src', 'shaders', 'scripts', 'test', 'bench'];
const SOURCE = /\.(tsx?|wgsl|css)$/;

const files: SourceFile[] = FOLDERS.filter((folder) => existsSync(path.join(root, folder))).flatMap((folder) =>
  readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => SOURCE.test(name))
    .map((name) => {
      const file = path.join(folder, name);
      return { path: file.split(path.sep).join('/'), text: readFileSync(path.join(root, file), 'utf8') };
    }),
);
const found = breaches(files);
for (const line of found) console.error(line);
console.log(`${files.length} files checked, ${found.length} breaches.`);
process.exit(found.length > 0 ? 1 : 0);
