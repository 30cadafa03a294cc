import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { EngineOffer } from '../../../src/node/engine-offer.ts';
import { openModelFiles } from '../../../src/node/model-files.ts';
import { Progress } from '../../../src/node/progress.ts';
import { startEngine } from '../../../src/node/start-engine.ts';
import { systemClock } from '../../../src/protocol/clock.ts';
import { folderFiles } from '../../support/folder-files.ts';

const PLACE = {
  gpu: undefined,
  shaders: () => '',
  now: () => 0,
  clock: systemClock,
  startGrammarThread: () => ({ post() {}, end() {} }),
};

const files = folderFiles(fileURLToPath(new URL('../../../models/quire-pico', import.meta.url)));
const OFFER: EngineOffer = { model: files.offer, blockSize: 16, hashAlgo: 'xxh3', options: {} };

const start = (query: string, offer = OFFER) =>
  startEngine(
    PLACE,
    {
      offer,
      files,
      progress: new Progress(
        () => {},
        files.offer.files,
        () => 0,
      ),
      query,
    },
    { tokens() {}, kvEvents() {}, prefilled() {}, failed() {}, lost() {}, adapter() {} },
  );

describe('starting an engine', () => {
  test('a page without a GPU is refused with what to do', async () => {
    await expect(start('')).rejects.toMatchObject({
      code: 'no_adapter',
      message: expect.stringMatching(/https or localhost/),
    });
  });

  test('block size, hash and default sampling are the cluster’s: a page that asks for others is told how to change them', async () => {
    await expect(start('?block-size=32')).rejects.toMatchObject({
      code: 'model',
      message: expect.stringContaining('start the hub with --block-size 32'),
    });
    await expect(start('?prefix-caching-hash-algo=sha256')).rejects.toMatchObject({ code: 'model' });
    await expect(start('?prefix-caching-hash-seed=7')).rejects.toMatchObject({ code: 'model' });
    await expect(start('?generation-config=vllm')).rejects.toMatchObject({ code: 'model' });
    await expect(start('?runner=pooling')).rejects.toMatchObject({ code: 'model' });
    const mean = '{"pooling_type":"MEAN"}';
    await expect(start(`?pooler-config=${mean}`)).rejects.toMatchObject({ code: 'model' });
    const pools = { ...OFFER, options: { runner: 'pooling', 'pooler-config': mean } };
    await expect(start('', pools)).rejects.toMatchObject({ code: 'no_adapter' });
    const vllm = { ...OFFER, options: { 'generation-config': 'vllm' } };
    await expect(start('?generation-config=vllm', vllm)).rejects.toMatchObject({ code: 'no_adapter' });
    await expect(start('?block-size=32', { ...OFFER, blockSize: 32 })).rejects.toMatchObject({ code: 'no_adapter' });
  });

  test('an option that no page knows is refused by name, before anything is loaded', async () => {
    await expect(start('?max-num-seq=4')).rejects.toThrow(/max-num-seqs/);
  });

  test('a model that cannot run here is refused before its weights are read', async () => {
    const opened: string[] = [];
    const other = {
      offer: files.offer,
      open: async (path: string) => {
        opened.push(path);
        throw new Error('not a model');
      },
    };
    const starting = startEngine(
      PLACE,
      {
        offer: OFFER,
        files: other,
        progress: new Progress(
          () => {},
          [],
          () => 0,
        ),
        query: '',
      },
      { tokens() {}, kvEvents() {}, prefilled() {}, failed() {}, lost() {}, adapter() {} },
    );
    await expect(starting).rejects.toThrow('not a model');
    expect(opened).toEqual(['config.json']);
  });
});

describe('model files of a page', () => {
  test('a browser that keeps nothing says so', async () => {
    const notices: string[] = [];
    await openModelFiles({
      offer: files.offer,
      baseUrl: 'http://127.0.0.1',
      storage: {},
      signal: new AbortController().signal,
      onNotice: (notice) => notices.push(notice),
    });
    expect(notices).toEqual([expect.stringMatching(/not kept for the next visit/)]);
  });

  test('nothing is asked for once the node has left', async () => {
    const opened = await openModelFiles({
      offer: files.offer,
      baseUrl: 'http://127.0.0.1',
      storage: {},
      signal: AbortSignal.abort(new Error('left')),
      onNotice: () => {},
    });
    await expect(opened.open('config.json', 0)).rejects.toThrow('left');
  });
});

describe('progress', () => {
  test('a notice stands for three seconds of bytes, then makes room', () => {
    let time = 0;
    const told: [string, string, number][] = [];
    const offered = [{ path: 'model.safetensors', size: 100, sha256: '0'.repeat(64) }];
    const progress = new Progress(
      (stage, detail, bytes) => told.push([stage, detail, bytes]),
      offered,
      () => time,
    );
    progress.say('waiting for another page');
    progress.loaded(10, 100);
    time = 3001;
    progress.loaded(20, 100);
    progress.warming('compiling');
    expect(told).toEqual([
      ['downloading', 'waiting for another page', 0],
      ['downloading', 'waiting for another page', 10],
      ['downloading', '', 20],
      ['warming', 'compiling', 20],
    ]);
  });
});
