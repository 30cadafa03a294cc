import * as z from 'zod';
import { modelError } from '../model-error.ts';
import { FileCheck, type OfferFile } from './file-check.ts';
import { type Notice, type OfferedFiles, offeredFile, type VerifiedFiles } from './source.ts';
import type { LockMode, ModelStore, StoreWriter } from './store.ts';
import { chunksOf, dropFirst, toStream } from './stream.ts';

/** Beside the data of a file, once its SHA-256 has been found right. */
const Commit = z.object({ size: z.number(), sha256: z.string() });
const COMMIT_SUFFIX = '.commit';

const lockName = (sha256: string): string => `quire-model-${sha256}`;

/**
 * The files of `source`, each kept in `store` under its SHA-256 when it is first read, and read from there ever after.
 * While one page downloads a file the others of its origin wait, and read then. A download that broke goes on behind the
 * bytes that are there; a file counts as kept only once its SHA-256 was right.
 * Where the store has no room, or fails, the file streams through without being kept, and a notice says so.
 */
export function storedFiles(source: OfferedFiles, store: ModelStore, onNotice: Notice): VerifiedFiles {
  const kept = new StoredFiles(source, store, onNotice);
  return {
    offer: source.offer,
    verified: true,
    open: async (path, from) => toStream(dropFirst(kept.bytes(offeredFile(source.offer, path)), from)),
  };
}

class StoredFiles {
  private saidShort = false;

  constructor(
    private readonly source: OfferedFiles,
    private readonly store: ModelStore,
    private readonly onNotice: Notice,
  ) {}

  async *bytes(file: OfferFile): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const shared = await this.lock(file, 'shared');
      let damage: unknown;
      try {
        if (await this.committed(file)) {
          damage = yield* this.kept(file);
          if (!damage) return;
        }
      } finally {
        shared();
      }
      const exclusive = await this.lock(file, 'exclusive');
      try {
        if (damage) {
          await this.remove(file.sha256);
          throw modelError(
            file.path,
            `the copy that this browser kept was damaged and is removed. Load it again. (${String(damage)})`,
          );
        }
        // Where another page has finished it meanwhile, all that waited read it side by side.
        if (await this.committed(file)) continue;
        yield* this.download(file);
        return;
      } finally {
        exclusive();
      }
    }
  }

  /** The bytes of a committed file; returns what is wrong with them, null when nothing is. */
  private async *kept(file: OfferFile): AsyncGenerator<Uint8Array, unknown, undefined> {
    try {
      const check = await FileCheck.start(file);
      for await (const chunk of chunksOf(await this.store.folder.read(file.sha256))) {
        check.update(chunk);
        yield chunk;
      }
      return check.finish();
    } catch (error) {
      return error;
    }
  }

  private async lock(file: OfferFile, mode: LockMode): Promise<() => void> {
    const name = lockName(file.sha256);
    const atOnce = await this.store.locks.tryAcquire(name, mode);
    if (atOnce) return atOnce;
    this.onNotice(`${file.path}: another page of this browser has it open; waiting for that`);
    return this.store.locks.acquire(name, mode);
  }

  private async committed({ sha256, size }: OfferFile): Promise<boolean> {
    const { folder } = this.store;
    const record = sha256 + COMMIT_SUFFIX;
    if ((await folder.size(sha256)) !== size || (await folder.size(record)) === null) return false;
    const commit = Commit.safeParse(jsonOrNull(await new Response(await folder.read(record)).text()));
    return commit.success && commit.data.sha256 === sha256 && commit.data.size === size;
  }

  /** All bytes of a file that is not committed. Runs under its exclusive lock. */
  private async *download(file: OfferFile): AsyncGenerator<Uint8Array, void, undefined> {
    const check = await FileCheck.start(file);
    for await (const part of this.partial(file)) {
      check.update(part);
      yield part;
    }
    let writer = (await this.hasRoom(file, check.bytes)) ? await this.openWriter(file, file.sha256, check.bytes) : null;
    try {
      if (check.bytes < file.size) {
        for await (const chunk of chunksOf(await this.source.open(file.path, check.bytes))) {
          check.update(chunk);
          if (writer && !(await this.write(writer, chunk, file))) writer = null;
          yield chunk;
        }
      }
    } finally {
      writer?.close();
    }
    const wrong = check.finish();
    if (writer && !wrong) await this.commit(file);
    // What came too short stays, to be gone on with.
    if (writer && wrong && check.bytes === file.size) await this.remove(file.sha256);
    if (wrong) throw wrong;
  }

  /** What an earlier visit has left of the file. */
  private async *partial(file: OfferFile): AsyncGenerator<Uint8Array, void, undefined> {
    const kept = Math.min((await this.store.folder.size(file.sha256)) ?? 0, file.size);
    if (kept === 0) return;
    this.onNotice(`${file.path}: ${kept} of ${file.size} bytes are here from an earlier visit; going on behind them`);
    let left = kept;
    for await (const chunk of chunksOf(await this.store.folder.read(file.sha256))) {
      const part = chunk.subarray(0, left);
      left -= part.byteLength;
      yield part;
      if (left === 0) return;
    }
  }

  /**
   * Makes room for all that the model still lacks by dropping files of other models. False where not even this file finds room; a notice
   * names both numbers, and where only later files do not, too: so it is known before the first of them comes.
   */
  private async hasRoom(file: OfferFile, kept: number): Promise<boolean> {
    const { name } = this.source.offer;
    const missing = await this.missing();
    const free = async () => (await this.store.free()) ?? Number.POSITIVE_INFINITY;
    if ((await free()) >= missing) return true;
    await this.dropOthers();
    const room = await free();
    if (room >= missing) return true;
    const needed = file.size - kept;
    if (room < needed) {
      this.onNotice(
        `${file.path}: ${needed} bytes are to be kept, the browser has room for ${room}; not kept, so the next visit downloads it again. Free disk space to change that`,
      );
      return false;
    }
    if (!this.saidShort) {
      this.onNotice(
        `${name}: ${missing} bytes are to be kept, the browser has room for ${room}; what finds none is downloaded again by the next visit. Free disk space to change that`,
      );
    }
    this.saidShort = true;
    return true;
  }

  /** Bytes of the model that are not in the store. */
  private async missing(): Promise<number> {
    const { files } = this.source.offer;
    const here = await Promise.all(files.map(({ sha256 }) => this.store.folder.size(sha256)));
    return files.reduce((sum, { size }, i) => sum + Math.max(0, size - (here[i] ?? 0)), 0);
  }

  private async dropOthers(): Promise<void> {
    const { folder, locks } = this.store;
    const wanted = new Set(this.source.offer.files.map((f) => f.sha256));
    const hashes = new Set((await folder.names()).map((name) => name.replace(COMMIT_SUFFIX, '')));
    for (const hash of hashes) {
      if (wanted.has(hash)) continue;
      // A file that another page reads or writes stays.
      const release = await locks.tryAcquire(lockName(hash), 'exclusive');
      if (!release) continue;
      try {
        await this.remove(hash);
      } finally {
        release();
      }
    }
  }

  private async openWriter(file: OfferFile, name: string, keep: number): Promise<StoreWriter | null> {
    try {
      return await this.store.folder.append(name, keep);
    } catch (error) {
      this.giveUp(file, error);
      return null;
    }
  }

  private async write(writer: StoreWriter, chunk: Uint8Array, file: OfferFile): Promise<boolean> {
    try {
      writer.write(chunk);
      return true;
    } catch (error) {
      writer.close();
      await this.remove(file.sha256);
      this.giveUp(file, error);
      return false;
    }
  }

  private giveUp(file: OfferFile, error: unknown): void {
    this.onNotice(
      `${file.path}: the browser could not keep it (${String(error)}), so the next visit downloads it again`,
    );
  }

  private async commit(file: OfferFile): Promise<void> {
    const record: z.infer<typeof Commit> = { size: file.size, sha256: file.sha256 };
    const writer = await this.openWriter(file, file.sha256 + COMMIT_SUFFIX, 0);
    if (writer) await this.write(writer, new TextEncoder().encode(JSON.stringify(record)), file);
    writer?.close();
  }

  private async remove(sha256: string): Promise<void> {
    await this.store.folder.remove(sha256 + COMMIT_SUFFIX);
    await this.store.folder.remove(sha256);
  }
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
