import type { ModelStore, StoreFolder, StoreLocks, StoreWriter } from './store.ts';

const FOLDER = 'quire-models';

/** The part of `navigator` that a store needs; older browsers and insecure contexts lack some of it. */
export interface StorageNavigator {
  readonly storage?: Pick<StorageManager, 'getDirectory' | 'estimate'>;
  readonly locks?: Pick<LockManager, 'request'>;
}

export type OpenedStore = { readonly store: ModelStore } | { readonly store: null; readonly reason: string };

/**
 * The origin private file system of this page as a store. Works in workers only (`createSyncAccessHandle`).
 * Where the browser has none, `reason` says why; nothing is thrown.
 */
export async function openOpfs(navigator: StorageNavigator): Promise<OpenedStore> {
  const { storage, locks } = navigator;
  if (!storage?.getDirectory || !locks) {
    return {
      store: null,
      reason: 'this browser has no private file system or no locks here (they need https or localhost)',
    };
  }
  try {
    const root = await storage.getDirectory();
    const folder = await root.getDirectoryHandle(FOLDER, { create: true });
    return {
      store: {
        folder: opfsFolder(folder),
        locks: webLocks(locks),
        free: async () => {
          const { quota, usage } = await storage.estimate();
          return quota === undefined ? null : Math.max(0, quota - (usage ?? 0));
        },
      },
    };
  } catch (error) {
    return { store: null, reason: `the browser does not open its private file system here (${String(error)})` };
  }
}

function opfsFolder(folder: FileSystemDirectoryHandle): StoreFolder {
  // `getFile` and not a sync access handle: those are exclusive, and several pages read one file at a time.
  const find = async (name: string): Promise<File | null> => {
    try {
      return await (await folder.getFileHandle(name)).getFile();
    } catch (error) {
      if (isNotFound(error)) return null;
      throw error;
    }
  };
  return {
    size: async (name) => (await find(name))?.size ?? null,
    read: async (name) => (await (await folder.getFileHandle(name)).getFile()).stream(),
    append: async (name, keep) => writerOf(await folder.getFileHandle(name, { create: true }), keep),
    remove: async (name) => {
      try {
        await folder.removeEntry(name);
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    },
    names: async () => {
      const names: string[] = [];
      for await (const name of folder.keys()) names.push(name);
      return names;
    },
  };
}

async function writerOf(file: FileSystemFileHandle, keep: number): Promise<StoreWriter> {
  const handle = await file.createSyncAccessHandle();
  let at = keep;
  let open = true;
  const close = (): void => {
    if (open) handle.close();
    open = false;
  };
  try {
    handle.truncate(keep);
  } catch (error) {
    close();
    throw error;
  }
  return {
    write: (bytes) => {
      const written = handle.write(bytes, { at });
      at += written;
      if (written !== bytes.byteLength) throw new Error(`wrote ${written} of ${bytes.byteLength} bytes`);
    },
    close,
  };
}

function isNotFound(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'NotFoundError';
}

/** Web Locks, held until released (or until the page goes away: then the browser releases them). */
function webLocks(locks: Pick<LockManager, 'request'>): StoreLocks {
  // A release takes effect a moment later; until then this page would meet its own lock and think it another page's.
  let released: Promise<unknown> = Promise.resolve();
  const hold = async (name: string, options: LockOptions): Promise<(() => void) | null> => {
    await released;
    return new Promise((resolve, reject) => {
      const over = locks.request(name, options, (lock) => {
        if (!lock) return resolve(null);
        return new Promise<void>((done) => {
          resolve(() => {
            done();
            released = Promise.all([released, over]);
          });
        });
      });
      over.catch(reject);
    });
  };
  return {
    tryAcquire: (name, mode) => hold(name, { mode, ifAvailable: true }),
    acquire: async (name, mode) => (await hold(name, { mode }))!,
  };
}
