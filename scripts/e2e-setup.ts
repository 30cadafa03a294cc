import { fileURLToPath } from 'node:url';
import { build, isStale } from '../src/hub/launch/page-build.ts';

/** Before the browser tests: both pages as the sources are now. */
export default async function setup(): Promise<void> {
  const root = fileURLToPath(new URL('..', import.meta.url));
  for (const mode of ['page', 'solo'] as const) {
    if (isStale(root, mode)) await build(root, mode);
  }
}
