import { mkdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { build, builtFolder, isStale } from '../hub/launch/page-build.ts';

const LOOK_MS = 250;
/** A build takes seconds: a lock so old is that of a process that died. */
const STALE_LOCK_MS = 120_000;

/** Folder of the page, built when its sources changed. Playwright's workers are processes of their own: one of them builds, the others wait. */
export async function builtPage(root: string): Promise<string> {
  const lock = path.join(root, 'dist/.build-lock');
  while (isStale(root, 'page')) {
    await mkdir(path.dirname(lock), { recursive: true });
    if (await taken(lock)) {
      await delay(LOOK_MS);
      continue;
    }
    try {
      if (isStale(root, 'page')) await build(root, 'page');
    } finally {
      await rm(lock, { recursive: true, force: true });
    }
  }
  return builtFolder(root, 'page');
}

/** Takes the lock, or says that another has it. */
async function taken(lock: string): Promise<boolean> {
  try {
    await mkdir(lock);
    return false;
  } catch {
    const made = await stat(lock).catch(() => null);
    if (made !== null && Date.now() - made.mtimeMs > STALE_LOCK_MS) await rm(lock, { recursive: true, force: true });
    return true;
  }
}
