import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { MAX_MODEL_FILES } from '../../protocol/model-files.ts';
import { HubStartError } from '../start-error.ts';

/** Beside the files of a model, once all of them are there and were checked. */
const RECORD = '.quire.json';
const LOCK = '.lock';

const Kept = z.object({
  id: z.string(),
  commit: z.string(),
  files: z.array(z.object({ path: z.string(), size: z.number(), sha256: z.string() })).max(MAX_MODEL_FILES),
});
export type Kept = z.infer<typeof Kept>;

/** SHA-256 of each file of a model that is in `folder` whole; null where it is not. */
export async function keptModel(folder: string): Promise<ReadonlyMap<string, string> | null> {
  const text = await readFile(path.join(folder, RECORD), 'utf8').catch(() => null);
  if (text === null) return null;
  const record = Kept.safeParse(jsonOrNull(text));
  if (!record.success) return null;
  for (const file of record.data.files) {
    const found = await stat(path.join(folder, file.path)).catch(() => null);
    if (found?.size !== file.size) return null;
  }
  return new Map(record.data.files.map(({ path, sha256 }) => [path, sha256]));
}

/** Says that the model is whole. */
export async function recordModel(folder: string, kept: Kept): Promise<void> {
  const fresh = path.join(folder, `${RECORD}.part`);
  await writeFile(fresh, `${JSON.stringify(kept, null, 2)}\n`);
  await rename(fresh, path.join(folder, RECORD));
}

/** Runs `work` while no other hub of this machine fetches into `folder`. Throws `HubStartError` where one does. */
export async function withLock<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const lock = path.join(folder, LOCK);
  for (;;) {
    try {
      const handle = await open(lock, 'wx');
      await handle.writeFile(String(process.pid));
      await handle.close();
      break;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      const owner = Number(await readFile(lock, 'utf8').catch(() => ''));
      if (owner !== process.pid && isAlive(owner)) {
        throw new HubStartError(
          `Another hub (process ${owner}) is fetching this model into ${folder}. Start again when it is done; if there is none, remove ${lock}.`,
        );
      }
      await rm(lock, { force: true });
    }
  }
  try {
    return await work();
  } finally {
    await rm(lock, { force: true });
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
