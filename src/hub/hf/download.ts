import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { HubStartError } from '../start-error.ts';
import type { HfClient } from './client.ts';
import type { SourceFile } from './listing.ts';
import { type RetryIo, retrying } from './retry.ts';

const PART = '.part';

/** Bytes of a file that are in `folder` already, whole or in part. */
export async function bytesHere(folder: string, file: SourceFile): Promise<number> {
  if ((await sizeOf(path.join(folder, file.path))) === file.size) return file.size;
  return Math.min((await sizeOf(path.join(folder, file.path + PART))) ?? 0, file.size);
}

export interface DownloadRequest {
  readonly client: HfClient;
  readonly url: URL;
  readonly file: SourceFile;
  readonly folder: string;
  readonly io: RetryIo;
  /** Bytes that came over the network. */
  readonly onBytes: (bytes: number) => void;
}

/**
 * Brings a file into its folder and returns its SHA-256, in hex. What an earlier try left (`.part`) is gone on with; the file gets its name when
 * all its bytes are on disk and have the hash that the source gives. Throws `HubStartError`.
 */
export async function downloadFile({ client, url, file, folder, io, onBytes }: DownloadRequest): Promise<string> {
  const target = path.join(folder, file.path);
  const check = new Check(file);
  if ((await sizeOf(target)) === file.size) {
    await check.read(target);
    return await verified(check, target);
  }
  const part = target + PART;
  await mkdir(path.dirname(part), { recursive: true });
  if (((await sizeOf(part)) ?? 0) > file.size) await rm(part);
  const handle = await open(part, 'a');
  try {
    await check.read(part);
    if (check.bytes < file.size) {
      await retrying(file.path, io, async (gained) => {
        const { body, restarted } = await client.stream(url, check.bytes);
        let skip = restarted ? check.bytes : 0;
        for await (const chunk of body as AsyncIterable<Buffer>) {
          const fresh = chunk.subarray(Math.min(skip, chunk.byteLength));
          skip -= chunk.byteLength - fresh.byteLength;
          onBytes(fresh.byteLength);
          if (fresh.byteLength === 0) continue;
          check.update(fresh);
          await write(handle, fresh, part);
          gained(fresh.byteLength);
        }
        if (check.bytes < file.size) throw new Error(`the answer ended at byte ${check.bytes} of ${file.size}`);
      });
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  const sha256 = await verified(check, part);
  await rename(part, target);
  return sha256;
}

/** The SHA-256 of a file all of whose bytes were seen. A file with other bytes than its source's is removed. Throws `HubStartError`. */
async function verified(check: Check, place: string): Promise<string> {
  const { sha256, wrong } = check.finish();
  if (wrong === null) return sha256;
  await rm(place);
  throw new HubStartError(`${wrong} It is removed: start again to fetch it anew.`);
}

async function write(handle: FileHandle, bytes: Buffer, place: string): Promise<void> {
  try {
    await handle.writeFile(bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HubStartError(
      `${place} cannot be written (${why}). Free disk space, or name another folder with --download-dir.`,
    );
  }
}

/** Compares the bytes of a file, as they pass, with what its source says of them. */
class Check {
  bytes = 0;
  private readonly sha256 = createHash('sha256');
  private readonly git: Hash | null;

  constructor(private readonly file: SourceFile) {
    this.git = file.hash?.algorithm === 'git' ? createHash('sha1').update(`blob ${file.size}\0`) : null;
  }

  /** Takes what lies on disk. */
  async read(place: string): Promise<void> {
    for await (const chunk of createReadStream(place)) this.update(chunk as Buffer);
  }

  update(chunk: Buffer): void {
    this.bytes += chunk.byteLength;
    if (this.bytes > this.file.size)
      throw new HubStartError(`${this.file.path} has more than the ${this.file.size} bytes that its source lists.`);
    this.sha256.update(chunk);
    this.git?.update(chunk);
  }

  finish(): { readonly sha256: string; readonly wrong: string | null } {
    const { path: name, hash } = this.file;
    const sha256 = this.sha256.digest('hex');
    const found = this.git?.digest('hex') ?? sha256;
    if (hash === null || hash.hex === found) return { sha256, wrong: null };
    return {
      sha256,
      wrong: `${name} has other bytes than its source lists (${hash.algorithm} ${found}, listed ${hash.hex}).`,
    };
  }
}

async function sizeOf(place: string): Promise<number | null> {
  try {
    return (await stat(place)).size;
  } catch {
    return null;
  }
}
