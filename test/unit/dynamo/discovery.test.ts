import { mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { type Discovery, type DiscoveryConfig, startDiscovery } from '../../../src/dynamo/discovery/discovery.ts';
import { fileName } from '../../../src/dynamo/discovery/file-store.ts';
import type { DiscoveryRecord } from '../../../src/dynamo/discovery/store.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { FakeEtcd } from '../../support/fake-etcd.ts';

const INSTANCE: DiscoveryRecord = {
  bucket: 'v1/instances',
  key: 'dynamo/backend/generate/1092',
  value: { type: 'Endpoint', instance_id: 4242 },
};
const CARD: DiscoveryRecord = { bucket: 'v1/mdc', key: 'dynamo/backend/generate/1092', value: { type: 'Model' } };

/** One of the places, as the test sees it from outside. */
interface Place {
  readonly config: DiscoveryConfig;
  /** Names `{bucket}/{key}` and values of all records. */
  records(): Promise<Record<string, unknown>>;
  /** All records are gone, as if they had been too old. */
  vanish(): Promise<void>;
  /** Nothing can be written while it is broken. */
  setBroken(broken: boolean): Promise<void>;
  close(): Promise<void>;
}

const BUCKETS = ['v1/instances', 'v1/mdc', 'v1/event_channels', 'v1/event_sources'];

async function filePlace(): Promise<Place> {
  const folder = await mkdtemp(path.join(tmpdir(), 'quire-dynkv-'));
  const kv = path.join(folder, 'kv');
  const files = async () => {
    const found: [string, string][] = [];
    for (const bucket of BUCKETS) for (const file of await readdir(path.join(kv, bucket))) found.push([bucket, file]);
    return found;
  };
  return {
    config: { backend: 'file', folder: kv },
    async records() {
      const found: Record<string, unknown> = {};
      for (const [bucket, file] of await files())
        found[`${bucket}/${decodeURIComponent(file)}`] = JSON.parse(
          await readFile(path.join(kv, bucket, file), 'utf8'),
        );
      return found;
    },
    async vanish() {
      for (const [bucket, file] of await files()) await rm(path.join(kv, bucket, file));
    },
    // The superuser may write what is read-only, so the folder moves away.
    setBroken: (broken) => (broken ? rename(kv, `${kv}.away`) : rename(`${kv}.away`, kv)),
    close: () => rm(folder, { recursive: true, force: true }),
  };
}

async function etcdPlace(): Promise<Place> {
  const etcd = await FakeEtcd.start();
  // The first address is nobody's.
  return {
    config: { backend: 'etcd', endpoints: ['http://127.0.0.1:9', etcd.url] },
    records: async () =>
      Object.fromEntries([...etcd.records].map(([name, { value }]) => [name, JSON.parse(value) as unknown])),
    vanish: async () => etcd.expire(),
    setBroken: async (broken) => {
      etcd.down = broken;
    },
    close: () => etcd.close(),
  };
}

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

describe.each([
  ['files', filePlace],
  ['etcd', etcdPlace],
])("Dynamo's discovery in %s", (_name, makePlace) => {
  async function start(): Promise<{ place: Place; discovery: Discovery; clock: FakeClock; logged: string[] }> {
    const place = await makePlace();
    open.push(place);
    const clock = new FakeClock();
    const logged: string[] = [];
    const log = pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line).msg) });
    const discovery = await startDiscovery(place.config, { clock, log });
    open.push(discovery);
    return { place, discovery, clock, logged };
  }

  /** Moves on to the next refresh, and waits until it is done: what is asked for after it is done after it. */
  async function refreshed(clock: FakeClock, discovery: Discovery): Promise<void> {
    clock.advance(4000);
    await discovery.remove({ bucket: 'v1/mdc', key: 'nothing' });
    await discovery.remove({ bucket: 'v1/mdc', key: 'nothing' });
  }

  it('has what was put, replaced and removed', async () => {
    const { place, discovery } = await start();
    await discovery.put(INSTANCE);
    await discovery.put(CARD);
    const instance = { 'v1/instances/dynamo/backend/generate/1092': INSTANCE.value };
    expect(await place.records()).toEqual({ ...instance, 'v1/mdc/dynamo/backend/generate/1092': CARD.value });
    await discovery.put({ ...CARD, value: { type: 'Model', namespace: 'other' } });
    expect(await place.records()).toMatchObject({ 'v1/mdc/dynamo/backend/generate/1092': { namespace: 'other' } });
    await discovery.remove(CARD);
    expect(await place.records()).toEqual(instance);
  });

  it('keeps to the order of calls, whether they are awaited or not', async () => {
    const { place, discovery } = await start();
    void discovery.put(INSTANCE);
    void discovery.remove(INSTANCE);
    void discovery.put(CARD);
    void discovery.remove(INSTANCE);
    await discovery.put({ ...CARD, value: { last: true } });
    expect(await place.records()).toEqual({ 'v1/mdc/dynamo/backend/generate/1092': { last: true } });
  });

  it('writes again what vanished, with the next refresh', async () => {
    const { place, discovery, clock } = await start();
    await discovery.put(INSTANCE);
    await discovery.put(CARD);
    const before = await place.records();
    await place.vanish();
    expect(await place.records()).toEqual({});
    await refreshed(clock, discovery);
    expect(await place.records()).toEqual(before);
  });

  it('says once that it cannot write, and does so when it can again', async () => {
    const { place, discovery, clock, logged } = await start();
    await discovery.put(CARD);
    await place.setBroken(true);
    await discovery.put(INSTANCE);
    await refreshed(clock, discovery);
    await refreshed(clock, discovery);
    expect(logged).toEqual([expect.stringContaining('cannot be written to the discovery of Dynamo')]);
    await place.setBroken(false);
    await refreshed(clock, discovery);
    expect(Object.keys(await place.records())).toHaveLength(2);
    expect(logged.at(-1)).toContain('can be written again');
  });

  it('leaves nothing behind', async () => {
    const { place, discovery, clock } = await start();
    void discovery.put(INSTANCE);
    void discovery.put(CARD);
    await discovery.close();
    expect(await place.records()).toEqual({});
    expect(clock.pending).toBe(0);
  });
});

describe('the file backend', () => {
  it('names files as Dynamo does', () => {
    expect(fileName('dynamo/backend/worker_kv_query_source_40ba51/1092')).toBe(
      'dynamo%2Fbackend%2Fworker%5Fkv%5Fquery%5Fsource%5F40ba51%2F1092',
    );
    expect(fileName('a-b.ü')).toBe('a%2Db%2E%C3%BC');
  });

  it('touches each file before it is 10 s old, and leaves those of others alone', async () => {
    const place = await filePlace();
    open.push(place);
    const clock = new FakeClock();
    const discovery = await startDiscovery(place.config, { clock, log: pino({ level: 'silent' }) });
    open.push(discovery);
    await discovery.put(INSTANCE);
    const folder = path.join((place.config as { folder: string }).folder, 'v1/instances');
    const own = path.join(folder, fileName(INSTANCE.key));
    const strange = path.join(folder, 'strange');
    await writeFile(strange, 'no JSON');
    const old = new Date(Date.now() - 60_000);
    await utimes(own, old, old);
    await utimes(strange, old, old);
    clock.advance(3000);
    await discovery.remove(CARD);
    await discovery.remove(CARD);
    expect(Date.now() - (await stat(own)).mtimeMs).toBeLessThan(10_000);
    expect(Date.now() - (await stat(strange)).mtimeMs).toBeGreaterThan(50_000);
    await discovery.close();
    expect(await readdir(folder)).toEqual(['strange']);
  });

  it.each(['a-file', 'a-file/below', '/dev/null/below'])('refuses the folder %s in one line', async (name) => {
    const root = await mkdtemp(path.join(tmpdir(), 'quire-dynkv-'));
    open.push({ close: () => rm(root, { recursive: true }) });
    await writeFile(path.join(root, 'a-file'), '');
    const config = { backend: 'file', folder: path.resolve(root, name) } as const;
    await expect(startDiscovery(config, { clock: new FakeClock(), log: pino({ level: 'silent' }) })).rejects.toThrow(
      /^DYN_FILE_KV: records cannot be written to .*Name a folder that this user may write\.$/,
    );
  });

  it('makes a folder with those above it', async () => {
    const root = await mkdtemp(path.join(tmpdir(), 'quire-dynkv-'));
    open.push({ close: () => rm(root, { recursive: true }) });
    const config = { backend: 'file', folder: path.join(root, 'a/b/c') } as const;
    const discovery = await startDiscovery(config, { clock: new FakeClock(), log: pino({ level: 'silent' }) });
    await discovery.close();
    expect(await readdir(path.join(root, 'a/b/c/v1'))).toHaveLength(4);
  });
});

describe('the etcd backend', () => {
  it('keeps its lease alive, and takes a new one only when it ran out', async () => {
    const etcd = await FakeEtcd.start();
    open.push(etcd);
    const clock = new FakeClock();
    const config = { backend: 'etcd', endpoints: [etcd.url] } as const;
    const discovery = await startDiscovery(config, { clock, log: pino({ level: 'silent' }) });
    open.push(discovery);
    await discovery.put(INSTANCE);
    const lease = [...etcd.leases];
    for (let i = 0; i < 3; i++) {
      clock.advance(3334);
      await discovery.remove(CARD);
      await discovery.remove(CARD);
    }
    expect(etcd.keepalives).toBe(3);
    expect([...etcd.leases]).toEqual(lease);
    await discovery.close();
    expect(etcd.leases.size).toBe(0);
  });

  it('removes what it could not remove at once, when it can again', async () => {
    const etcd = await FakeEtcd.start();
    open.push(etcd);
    const clock = new FakeClock();
    const config = { backend: 'etcd', endpoints: [etcd.url] } as const;
    const discovery = await startDiscovery(config, { clock, log: pino({ level: 'silent' }) });
    open.push(discovery);
    await discovery.put(INSTANCE);
    await discovery.put(CARD);
    etcd.down = true;
    await discovery.remove(CARD);
    expect(etcd.records.size).toBe(2);
    etcd.down = false;
    clock.advance(4000);
    await discovery.put(INSTANCE);
    expect([...etcd.records.keys()]).toEqual(['v1/instances/dynamo/backend/generate/1092']);
  });

  it('says in one line that nobody answers', async () => {
    const config = { backend: 'etcd', endpoints: ['http://127.0.0.1:9'] } as const;
    await expect(startDiscovery(config, { clock: new FakeClock(), log: pino({ level: 'silent' }) })).rejects.toThrow(
      /^ETCD_ENDPOINTS: etcd at http:\/\/127\.0\.0\.1:9: .*Name etcd's own addresses, such as http:\/\/127\.0\.0\.1:2379\.$/,
    );
  });
});
