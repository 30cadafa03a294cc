import type { Logger } from 'pino';
import type { Clock } from '../../protocol/clock.ts';
import { openEtcdStore } from './etcd-store.ts';
import { openFileStore } from './file-store.ts';
import type { DiscoveryRecord, Entry, RecordName, Store } from './store.ts';

/** Where records go: Dynamo's `DYN_DISCOVERY_BACKEND` with what belongs to it. */
export type DiscoveryConfig =
  | { readonly backend: 'file'; readonly folder: string }
  | { readonly backend: 'etcd'; readonly endpoints: readonly string[] };

/** The records of this hub, as Dynamo's frontends see them. */
export interface Discovery {
  /** Resolves once it was written, or could not be: then it is tried again with each refresh. Never rejects. */
  put(record: DiscoveryRecord): Promise<void>;
  /** Resolves as `put` does. */
  remove(name: RecordName): Promise<void>;
  /** Removes all records. */
  close(): Promise<void>;
}

export interface DiscoveryDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

/** Opens the place that the configuration names. Throws `BridgeStartError` (one line: what to do) where it cannot be had. */
export async function startDiscovery(config: DiscoveryConfig, deps: DiscoveryDeps): Promise<Discovery> {
  const store = config.backend === 'file' ? await openFileStore(config.folder) : await openEtcdStore(config.endpoints);
  return new KeptRecords(store, deps);
}

const nameOf = ({ bucket, key }: RecordName) => `${bucket}/${key}`;

/** What shall be in a store: written, refreshed and, where the store failed, tried again. One call of the store at a time, in order. */
class KeptRecords implements Discovery {
  readonly #wanted = new Map<string, Entry>();
  /** Of the wanted ones, those that could not be written. */
  readonly #unwritten = new Set<string>();
  /** No more wanted, and could not be erased. */
  readonly #unerased = new Map<string, RecordName>();
  #last: Promise<boolean> = Promise.resolve(true);
  #stopTimer = () => {};
  #closed = false;
  #failing = false;

  constructor(
    private readonly store: Store,
    private readonly deps: DiscoveryDeps,
  ) {
    this.#arm();
  }

  async put({ bucket, key, value }: DiscoveryRecord): Promise<void> {
    const entry = { bucket, key, text: JSON.stringify(value) };
    const name = nameOf(entry);
    this.#wanted.set(name, entry);
    this.#unwritten.add(name);
    this.#unerased.delete(name);
    await this.#next(() => this.#write(name));
  }

  async remove({ bucket, key }: RecordName): Promise<void> {
    const name = nameOf({ bucket, key });
    this.#wanted.delete(name);
    this.#unwritten.delete(name);
    this.#unerased.set(name, { bucket, key });
    await this.#next(() => this.#erase(name));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stopTimer();
    const removed = [...this.#wanted.values()].map((entry) => this.remove(entry));
    await Promise.all(removed);
    await this.#next(() => this.store.close());
  }

  async #write(name: string): Promise<void> {
    const entry = this.#wanted.get(name);
    if (entry === undefined || !this.#unwritten.has(name)) return;
    await this.store.write(entry);
    // Unless it was replaced meanwhile.
    if (this.#wanted.get(name) === entry) this.#unwritten.delete(name);
  }

  async #erase(name: string): Promise<void> {
    const unerased = this.#unerased.get(name);
    if (unerased === undefined) return;
    await this.store.erase(unerased);
    this.#unerased.delete(name);
  }

  /** Each by itself: one that fails must not keep the others from being refreshed in time. */
  async #refresh(): Promise<void> {
    const written = [...this.#wanted].filter(([name]) => !this.#unwritten.has(name)).map(([, entry]) => entry);
    const tasks = [
      this.#next(() => this.store.refresh(written)),
      ...[...this.#unerased.keys()].map((name) => this.#next(() => this.#erase(name))),
      ...[...this.#unwritten].map((name) => this.#next(() => this.#write(name))),
    ];
    const worked = await Promise.all(tasks);
    if (!this.#failing || !worked.every(Boolean)) return;
    this.#failing = false;
    this.deps.log.info('the discovery of Dynamo can be written again');
  }

  #arm(): void {
    this.#stopTimer = this.deps.clock.after(this.store.refreshMs, () => {
      void this.#refresh().then(() => {
        if (!this.#closed) this.#arm();
      });
    });
  }

  /** Whether the task worked, once it and all before it are done. */
  #next(task: () => Promise<void>): Promise<boolean> {
    const done = this.#last.then(async () => {
      try {
        await task();
        return true;
      } catch (error) {
        const message = 'records cannot be written to the discovery of Dynamo; they are tried again';
        if (!this.#failing) this.deps.log.error({ err: error }, message);
        this.#failing = true;
        return false;
      }
    });
    this.#last = done;
    return done;
  }
}
