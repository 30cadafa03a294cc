/** `npm run build`: the page for a hub (dist/page) and the page that needs none (dist/solo). `--if-stale` builds only what sources changed for. */
import { fileURLToPath } from 'node:url';
import { type BuildMode, build, builtFolder, isStale } from '../src/hub/launch/page-build.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const onlyStale = process.argv.includes('--if-stale');
for (const mode of ['page', 'solo'] satisfies BuildMode[]) {
  if (onlyStale && !isStale(root, mode)) continue;
  await build(root, mode);
  console.log(`Built ${builtFolder(root, mode)}`);
}
