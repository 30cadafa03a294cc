import { type DBSchema, type IDBPDatabase, openDB } from 'idb';
import * as z from 'zod';

/** What a page keeps between visits. */
const Settings = z.object({
  /** Name that a person gave this node; '' = none. */
  nodeName: z.string().max(100).default(''),
  /** Join token of this hub, from the fragment of its join link. */
  joinToken: z.string().max(4096).nullable().default(null),
  apiKey: z.string().max(4096).default(''),
});
export type Settings = z.infer<typeof Settings>;

interface SettingsDb extends DBSchema {
  settings: { key: string; value: unknown };
}

const KEY = 'page';

/** The page's settings in IndexedDB. A browser that keeps nothing (private windows) gives defaults, and forgets. */
export class SettingsStore {
  private constructor(
    private readonly db: IDBPDatabase<SettingsDb> | null,
    private current: Settings,
  ) {}

  static async open(): Promise<SettingsStore> {
    try {
      const db = await openDB<SettingsDb>('quire', 1, {
        upgrade: (fresh) => {
          fresh.createObjectStore('settings');
        },
      });
      const kept = Settings.safeParse((await db.get('settings', KEY)) ?? {});
      return new SettingsStore(db, kept.success ? kept.data : Settings.parse({}));
    } catch (error) {
      console.warn('This browser keeps no settings for this page:', error);
      return new SettingsStore(null, Settings.parse({}));
    }
  }

  get(): Settings {
    return this.current;
  }

  async set(patch: Partial<Settings>): Promise<void> {
    this.current = { ...this.current, ...patch };
    await this.db?.put('settings', this.current, KEY);
  }
}
