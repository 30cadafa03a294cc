import type { LockMode, ModelStore, StoreFolder, StoreLocks } from '../../src/engine/files/store.ts';
import { streamOf } from './folder-files.ts';

/** A store of one origin in memory, shared by all "pages" of a test; counts what the rules of the browser forbid. */
export class MemoryStore implements ModelStore {
  readonly files = new Map<string, Uint8Array>();
  readonly writers = new Set<string>();
  room: number | null = null;
  /** Bytes after which writing fails, as when the browser's estimate was too hopeful. */
  failAfter = Number.POSITIVE_INFINITY;
  readonly locks: StoreLocks = new MemoryLocks();

  async free(): Promise<number | null> {
    if (this.room === null) return null;
    return this.room - [...this.files.values()].reduce((sum, f) => sum + f.byteLength, 0);
  }

  readonly folder: StoreFolder = {
    size: async (name) => this.files.get(name)?.byteLength ?? null,
    read: async (name) => {
      if (this.writers.has(name)) throw new Error(`${name} is read while it is written`);
      return streamOf(this.files.get(name)!, [1000]);
    },
    append: async (name, keep) => {
      if (this.writers.has(name)) throw new Error(`${name} has two writers`);
      this.writers.add(name);
      this.files.set(name, (this.files.get(name) ?? new Uint8Array(0)).slice(0, keep));
      return {
        write: (bytes) => {
          const before = this.files.get(name)!;
          if (before.byteLength + bytes.byteLength > this.failAfter) throw new Error('QuotaExceededError');
          this.files.set(name, Buffer.concat([before, bytes]));
        },
        close: () => void this.writers.delete(name),
      };
    },
    remove: async (name) => void this.files.delete(name),
    names: async () => [...this.files.keys()],
  };
}

/** Readers-writer locks, first come first served, as Web Locks are. */
class MemoryLocks implements StoreLocks {
  private readonly held = new Map<string, { mode: LockMode; count: number }>();
  private readonly queue: { name: string; mode: LockMode; grant: (release: () => void) => void }[] = [];

  acquire(name: string, mode: LockMode): Promise<() => void> {
    return new Promise((grant) => {
      this.queue.push({ name, mode, grant });
      this.serve();
    });
  }

  async tryAcquire(name: string, mode: LockMode): Promise<(() => void) | null> {
    const held = this.held.get(name);
    const free = !held || (held.mode === 'shared' && mode === 'shared');
    if (!free || this.queue.some((wish) => wish.name === name)) return null;
    return this.acquire(name, mode);
  }

  private serve(): void {
    const blocked = new Set<string>();
    for (const wish of [...this.queue]) {
      const held = this.held.get(wish.name);
      const fits = !held || (held.mode === 'shared' && wish.mode === 'shared');
      if (blocked.has(wish.name) || !fits) {
        blocked.add(wish.name);
        continue;
      }
      this.queue.splice(this.queue.indexOf(wish), 1);
      this.held.set(wish.name, { mode: wish.mode, count: (held?.count ?? 0) + 1 });
      let released = false;
      wish.grant(() => {
        if (released) return;
        released = true;
        const now = this.held.get(wish.name)!;
        if (now.count === 1) this.held.delete(wish.name);
        else this.held.set(wish.name, { mode: now.mode, count: now.count - 1 });
        this.serve();
      });
    }
  }
}
