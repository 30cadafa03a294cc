import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { BridgeStartError } from '../start-error.ts';
import type { Bucket, Entry, RecordName, Store } from './store.ts';

/** Files that were not touched for 10 s are removed by whoever looks. */
const REFRESH_MS = 3000;
/** Longest file name on the usual file systems, bytes. */
const MAX_NAME = 255;
const BUCKETS: readonly Bucket[] = ['v1/instances', 'v1/mdc', 'v1/event_channels', 'v1/event_sources'];

/** A key as a file name: each byte but ASCII letters and digits becomes `%XX`. */
export function fileName(key: string): string {
  return [...Buffer.from(key, 'utf8')]
    .map((byte) => {
      const char = String.fromCharCode(byte);
      return /[A-Za-z\d]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    })
    .join('');
}

/**
 * Dynamo's file backend (`DYN_DISCOVERY_BACKEND=file`): one file a record in `{folder}/{bucket}`, which appears by a rename and lives as long
 * as it is touched. Throws `BridgeStartError` where the folder cannot be made or written.
 */
export async function openFileStore(folder: string): Promise<Store> {
  const place = ({ bucket, key }: RecordName) => path.join(folder, bucket, fileName(key));
  const write = async (entry: Entry): Promise<void> => {
    const temporary = path.join(folder, entry.bucket, `.tmp_${randomBytes(8).toString('hex')}`);
    try {
      await writeFile(temporary, entry.text, { flag: 'wx' });
      await rename(temporary, place(entry));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  };
  try {
    for (const bucket of BUCKETS) await makeFolder(path.join(folder, bucket));
    const probe = path.join(folder, BUCKETS[0]!, `.tmp_${randomBytes(8).toString('hex')}`);
    await writeFile(probe, '', { flag: 'wx' });
    await rm(probe);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new BridgeStartError(
      `DYN_FILE_KV: records cannot be written to ${folder}: ${why}. Name a folder that this user may write.`,
    );
  }
  return {
    refreshMs: REFRESH_MS,
    async write(entry) {
      if (fileName(entry.key).length > MAX_NAME)
        throw new Error(`the record ${entry.key} has no room in a file name; take a shorter namespace or model name`);
      await write(entry);
    },
    async erase(name) {
      await rm(place(name), { force: true });
    },
    async refresh(entries) {
      const now = new Date();
      let failure: unknown = null;
      for (const entry of entries) {
        try {
          // Where whoever found it too old removed it, it is written anew.
          await utimes(place(entry), now, now).catch(() => write(entry));
        } catch (error) {
          failure ??= error;
        }
      }
      if (failure !== null) throw failure;
    },
    async close() {},
  };
}

/** Made with those above it. Node's own way never ends where a file system refuses new folders with ENOENT, as /proc does. */
async function makeFolder(folder: string): Promise<void> {
  try {
    await makeOne(folder);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' || path.dirname(folder) === folder) throw error;
    await makeFolder(path.dirname(folder));
    await makeOne(folder);
  }
}

async function makeOne(folder: string): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : null;
}
