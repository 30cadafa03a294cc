import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { openOpfs } from '../../../src/engine/files/opfs.ts';
import { type OfferedFiles, readModelFile } from '../../../src/engine/files/source.ts';
import { storedFiles } from '../../../src/engine/files/stored-files.ts';
import { memoryFiles, streamOf } from '../../support/folder-files.ts';
import { MemoryStore } from '../../support/memory-store.ts';

const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => (i * 31) >> 3);
const sha256 = createHash('sha256').update(bytes).digest('hex');
const PATH = 'model.safetensors';

let store: MemoryStore;
let notices: string[];
/** From which bytes the network was asked. */
let requests: number[];

/** The network: gives `bytes`, in chunks of 700, and breaks after `upTo` bytes of a request. */
function network(upTo = Number.POSITIVE_INFINITY, given = bytes): OfferedFiles {
  return {
    offer: memoryFiles({ [PATH]: bytes }).offer,
    open: async (_path, from) => {
      requests.push(from);
      let sent = 0;
      const reader = streamOf(given.subarray(from), [700]).getReader();
      return new ReadableStream<Uint8Array>(
        {
          pull: async (controller) => {
            const { done, value } = await reader.read();
            if (done) return controller.close();
            sent += value.byteLength;
            if (sent > upTo) return controller.error(new Error('connection lost'));
            controller.enqueue(value);
          },
        },
        { highWaterMark: 0 },
      );
    },
  };
}

/** One page that loads the file; `stopAfter` chunks it is closed. */
async function visit(source = network(), stopAfter = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const files = storedFiles(source, store, (text) => notices.push(text));
  const parts: Uint8Array[] = [];
  for await (const chunk of readModelFile(files, PATH)) {
    parts.push(chunk);
    if (parts.length === stopAfter) break;
  }
  return Buffer.concat(parts);
}

beforeEach(() => {
  store = new MemoryStore();
  notices = [];
  requests = [];
});

describe('visits', () => {
  test('the second one downloads nothing', async () => {
    expect((await visit()).equals(bytes)).toBe(true);
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toEqual([0]);
    expect(notices).toEqual([]);
    expect([...store.files.keys()].sort()).toEqual([sha256, `${sha256}.commit`]);
  });

  test('one that breaks is taken up behind the bytes that are there', async () => {
    await expect(visit(network(3000))).rejects.toThrow('connection lost');
    expect(store.files.get(sha256)?.byteLength).toBe(2800);
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toEqual([0, 2800]);
    expect(notices[0]).toContain('2800 of 10000 bytes are here from an earlier visit');
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toHaveLength(2);
  });

  test('one that is closed early leaves what it has, and neither lock nor writer', async () => {
    await visit(network(), 4);
    expect(store.files.get(sha256)?.byteLength).toBe(2800);
    expect(store.writers.size).toBe(0);
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toEqual([0, 2800]);
  });

  test('breaks at any places end in the right bytes and one commit', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 6000 }), { maxLength: 6 }), async (breaks) => {
        store = new MemoryStore();
        for (const upTo of breaks) await visit(network(upTo)).catch(() => {});
        expect((await visit()).equals(bytes)).toBe(true);
        expect(Buffer.from(store.files.get(sha256)!).equals(bytes)).toBe(true);
        expect(store.files.has(`${sha256}.commit`)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  test('a crash between the last byte and the commit costs no download', async () => {
    await visit();
    store.files.set(`${sha256}.commit`, Buffer.from('{"size":100'));
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toEqual([0]);
    expect((await visit()).equals(bytes)).toBe(true);
    expect(notices).toHaveLength(1);
  });
});

describe('several pages at once', () => {
  test('three on an empty store make one download', async () => {
    const all = await Promise.all([visit(), visit(), visit()]);
    expect(all.every((found) => found.equals(bytes))).toBe(true);
    expect(requests).toEqual([0]);
    expect(notices.length).toBeGreaterThanOrEqual(2);
    expect(new Set(notices)).toEqual(new Set([`${PATH}: another page of this browser has it open; waiting for that`]));
  });

  test('the next one takes over where the writer is closed', async () => {
    const writer = readModelFile(
      storedFiles(network(), store, () => {}),
      PATH,
    );
    for (let i = 0; i < 3; i++) await writer.next();
    const others = [visit(), visit()];
    await writer.return();
    for (const found of await Promise.all(others)) expect(found.equals(bytes)).toBe(true);
    expect(requests).toEqual([0, 2100]);
  });

  test('read a kept file side by side', async () => {
    await visit();
    const files = storedFiles(network(), store, () => {});
    const readers = [readModelFile(files, PATH), readModelFile(files, PATH)];
    for (const reader of readers) expect((await reader.next()).done).toBe(false);
    for (const reader of readers) await reader.return();
    expect(notices).toEqual([]);
  });
});

describe('damage', () => {
  const wrong = bytes.slice();
  wrong[5000]! ^= 1;

  test('in the download: an error with the name of the file, and nothing is kept', async () => {
    await expect(visit(network(Number.POSITIVE_INFINITY, wrong))).rejects.toThrow(
      /^model\.safetensors: its bytes are not those/,
    );
    expect(store.files.size).toBe(0);
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toEqual([0, 0]);
  });

  test('in a kept file: an error, and the next visit downloads it anew', async () => {
    await visit();
    store.files.set(sha256, wrong);
    await expect(visit()).rejects.toThrow(/its bytes are not those/);
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toEqual([0, 0]);
  });

  test('in a part of a file: the same', async () => {
    await visit(network(), 9);
    store.files.get(sha256)![17]! ^= 1;
    await expect(visit()).rejects.toThrow(/its bytes are not those/);
    expect((await visit()).equals(bytes)).toBe(true);
  });

  test('more bytes in the store than the file has', async () => {
    await visit();
    store.files.set(sha256, Buffer.concat([bytes, bytes]));
    expect((await visit()).equals(bytes)).toBe(true);
    expect(requests).toEqual([0]);
  });
});

describe('room', () => {
  test('files of other models make way, those of this one stay', async () => {
    store.room = bytes.byteLength + 100;
    store.files.set('0'.repeat(64), new Uint8Array(5000));
    store.files.set(`${'0'.repeat(64)}.commit`, new Uint8Array(50));
    await visit(network(), 3);
    expect((await visit()).equals(bytes)).toBe(true);
    expect([...store.files.keys()].sort()).toEqual([sha256, `${sha256}.commit`]);
  });

  test('files of other models that are in use stay', async () => {
    store.room = bytes.byteLength;
    const other = '0'.repeat(64);
    store.files.set(other, new Uint8Array(5000));
    const release = await store.locks.acquire(`quire-model-${other}`, 'shared');
    expect((await visit()).equals(bytes)).toBe(true);
    expect([...store.files.keys()]).toEqual([other]);
    release();
  });

  test('too little of it: the file streams through, and a notice names both numbers', async () => {
    store.room = 9999;
    expect((await visit()).equals(bytes)).toBe(true);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(/10000 bytes are to be kept, the browser has room for 9999; not kept/);
    expect(store.files.size).toBe(0);
  });

  test('for a part of the model: known at its first file, which is kept', async () => {
    const first = bytes.subarray(0, 6000);
    const files = { 'a.safetensors': first, 'b.safetensors': bytes };
    store.room = 12_000;
    const stored = storedFiles(memoryFiles(files), store, (text) => notices.push(text));
    const read = async (name: string) => {
      for await (const _ of readModelFile(stored, name));
    };
    await read('a.safetensors');
    expect(notices).toEqual([
      expect.stringMatching(/^memory: 16000 bytes are to be kept, the browser has room for 12000; what finds none/),
    ]);
    expect(store.files.size).toBe(2);
    await read('b.safetensors');
    expect(notices[1]).toMatch(/^b\.safetensors: 10000 bytes are to be kept, the browser has room for \d+; not kept/);
    expect(store.files.size).toBe(2);
  });

  test('that ends while writing: the file streams through, and a notice says so', async () => {
    store.failAfter = 4000;
    expect((await visit()).equals(bytes)).toBe(true);
    expect(notices[0]).toContain('could not keep it (Error: QuotaExceededError)');
    expect(store.files.size).toBe(0);
    expect(store.writers.size).toBe(0);
  });
});

describe('a browser that cannot keep files', () => {
  test.each([
    ['no storage', {}, 'no private file system or no locks'],
    [
      'storage that is closed (private window)',
      {
        storage: { getDirectory: () => Promise.reject(new Error('SecurityError')), estimate: async () => ({}) },
        locks: { request: () => Promise.reject(new Error('unused')) },
      },
      'SecurityError',
    ],
  ])('%s: there is no store, and the reason is told', async (_what, navigator, words) => {
    const opened = await openOpfs(navigator);
    expect(opened.store).toBeNull();
    expect(opened.store === null && opened.reason).toContain(words);
  });
});
