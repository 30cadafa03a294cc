import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { type FileServer, startFileServer } from '../../../src/dynamo/cards/file-server.ts';
import { checkFiles, modelCard, requireFiles } from '../../../src/dynamo/cards/model-card.ts';
import { componentOf, newId, queryEndpoint, slugOf } from '../../../src/dynamo/cards/names.ts';
import {
  channelRecord,
  type Instance,
  instanceRecord,
  modelRecord,
  type Publisher,
  sourceRecord,
} from '../../../src/dynamo/cards/records.ts';
import type { BridgeFile, BridgeModel } from '../../../src/dynamo/ports.ts';
import type { ServedModel } from '../../../src/frontend/backend.ts';
import type { Card, Role } from '../../../src/protocol/messages.ts';

const Named = z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) });
const Capture = z.object({
  instances: z.array(Named),
  mdc: z.array(Named),
  event_channels: z.array(Named),
  event_sources: z.array(Named),
});
const Disagg = z.object({ models: z.array(Named.extend({ value: z.looseObject({ card_json: z.looseObject({}) }) })) });
const fixture = async (name: string): Promise<unknown> =>
  JSON.parse(await readFile(new URL(`../../fixtures/dynamo/${name}.json`, import.meta.url), 'utf8'));
const capture = Capture.parse(await fixture('discovery-proof-worker'));

const PICO = path.resolve(import.meta.dirname, '../../../models/quire-pico');
const FILES: BridgeFile[] = await Promise.all(
  (await readdir(PICO))
    .filter((name) => /config\.json$|^tokenizer\.json$/.test(name))
    .map(async (name) => ({ name, bytes: await readFile(path.join(PICO, name)) })),
);

const SERVED: ServedModel = {
  name: 'quire-pico',
  parent: null,
  created: 0,
  maxModelLen: () => 2048,
  tokenizer: null,
  parsers: { toolCalls: 'hermes', reasoning: 'qwen3' },
  eosIds: [2],
  generationDefaults: {},
  vocabSize: 4096,
  pooler: null,
  hiddenSize: 256,
  backend: {
    generate() {
      throw new Error('nobody asks');
    },
  },
};
const MODEL: BridgeModel = { served: SERVED, maxModelLen: 2048, blockSize: 16, files: FILES };

function cardOf(role: Role, more: Partial<Card> = {}): Card {
  return {
    model: 'quire-pico',
    fingerprint: 'f',
    numericsId: 'n',
    role,
    dpRank: 0,
    dpSize: 1,
    adapter: { vendor: '', architecture: '', device: '', description: '', software: false, features: [] },
    blockSize: 16,
    totalBlocks: 512,
    maxModelLen: 2048,
    maxNumSeqs: 8,
    maxNumBatchedTokens: 2048,
    kvCacheDtype: 'f32',
    hashAlgo: 'xxh3',
    transports: [],
    localScope: null,
    ...more,
  };
}

const INSTANCE: Instance = {
  namespace: 'dynamo',
  component: 'backend',
  endpoint: 'generate',
  instance: 4242,
  address: '127.0.0.1:44615',
};
const EVENTS: Publisher = { id: 4242001, of: INSTANCE, topic: 'kv-events', zmqEndpoint: 'tcp://127.0.0.1:41677' };

const open: FileServer[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

describe('records that a frontend of 1.4.0 accepted', () => {
  const files = checkFiles(FILES, ({ name }) => `http://127.0.0.1:8301/files/${name}`);
  const query: Instance = { ...INSTANCE, endpoint: queryEndpoint(EVENTS.id) };

  it('are written here for the same worker: instances, channels, sources', () => {
    const load: Publisher = { ...EVENTS, id: 4242002, topic: 'kv_metrics', zmqEndpoint: 'tcp://127.0.0.1:37031' };
    const named = (values: readonly z.infer<typeof Named>[], bucket: string) =>
      values.map((value) => ({ bucket, ...value }));
    expect([instanceRecord(INSTANCE), instanceRecord(query)]).toEqual(named(capture.instances, 'v1/instances'));
    expect([channelRecord(EVENTS), channelRecord(load)]).toEqual(named(capture.event_channels, 'v1/event_channels'));
    expect([sourceRecord(EVENTS, 0, query)]).toEqual(named(capture.event_sources, 'v1/event_sources'));
  });

  it('the model card too, with the checksums of the files', async () => {
    const record = modelRecord(INSTANCE, modelCard(MODEL, await files, cardOf('agg')));
    expect([record]).toEqual(capture.mdc.map((value) => ({ bucket: 'v1/mdc', ...value })));
  });

  it('of prefill and decode workers have the roles that the mocker writes', async () => {
    const { models } = Disagg.parse(await fixture('discovery-mocker-disagg'));
    const [decode, prefill] = models.map(({ value }) => value.card_json);
    const roleOf = (card: Record<string, unknown>) => [card.worker_type, card.model_type, card.needs];
    const own = async (role: Role) =>
      roleOf(z.record(z.string(), z.unknown()).parse(modelCard(MODEL, await files, cardOf(role))));
    expect(await own('prefill')).toEqual(roleOf(prefill!));
    // The mocker's decode worker needs a prefill worker; a node can do without.
    expect(await own('decode')).toEqual([...roleOf(decode!).slice(0, 2), []]);
  });

  it('differ between the nodes of a model in runtime_config alone', async () => {
    const some = { totalBlocks: 7, maxModelLen: 99, maxNumSeqs: 1, dpRank: 3, dpSize: 2, numericsId: 'x' };
    const [one, other] = [cardOf('agg'), cardOf('agg', some)].map(async (card) => {
      const { runtime_config, ...rest } = z.record(z.string(), z.unknown()).parse(modelCard(MODEL, await files, card));
      return { runtime_config, rest };
    });
    expect((await one!).rest).toEqual((await other!).rest);
    expect((await other!).runtime_config).toMatchObject({ data_parallel_start_rank: 3, data_parallel_size: 2 });
  });
});

describe('what Dynamo would refuse', () => {
  it('a model without the files of its tokenizer, by name', () => {
    const files = FILES.filter(({ name }) => name !== 'tokenizer.json');
    expect(() => requireFiles('quire-pico', files)).toThrow(/^--dynamo: the model quire-pico has no tokenizer\.json/);
    expect(() => requireFiles('quire-pico', FILES)).not.toThrow();
  });

  it('two models at one endpoint: each has components of its own, by role', () => {
    expect(slugOf('_Qwen/Qwen3-0.6B')).toBe('qwen_qwen3-0_6b');
    const roles: Role[] = ['agg', 'prefill', 'decode'];
    const names = ['a', 'b'].flatMap((model) => roles.map((role) => componentOf(model, role)));
    expect(new Set(names).size).toBe(6);
  });

  it('ids that are no plain numbers', () => {
    for (let i = 0; i < 100; i++) expect(newId()).toSatisfy((id: number) => Number.isSafeInteger(id) && id > 0);
  });
});

describe('the listener for the files of model cards', () => {
  it('serves what a card names, byte for byte, and nothing else', async () => {
    const server = await startFileServer('127.0.0.1', pino({ level: 'silent' }));
    open.push(server);
    const files = await checkFiles(FILES, (file, digest) => server.serve(file, digest));
    for (const [name, { path: url, checksum, size }] of files) {
      const got = new Uint8Array(await (await fetch(url)).arrayBuffer());
      expect(got).toHaveLength(size);
      expect([...(await checkFiles([{ name, bytes: got }], () => '')).values()]).toMatchObject([{ checksum }]);
    }
    const [first] = files.values();
    const { origin, pathname } = new URL(first!.path);
    const wrong = [
      '/',
      pathname.toUpperCase(),
      `${pathname}/`,
      `${pathname}?x`,
      '/../package.json',
      '/model.safetensors',
    ];
    for (const each of wrong) expect((await fetch(origin + each)).status).toBe(404);
    expect((await fetch(first!.path, { method: 'POST' })).status).toBe(404);
  });

  it('says in one line that it cannot listen', async () => {
    await expect(startFileServer('192.0.2.1', pino({ level: 'silent' }))).rejects.toThrow(
      /^DYN_TCP_RPC_HOST 192\.0\.2\.1: .*Name an address of this machine\.$/,
    );
  });
});
