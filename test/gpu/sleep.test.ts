import { afterEach, describe, expect, it } from 'vitest';
import type { ModelFiles } from '../../src/engine/files/source.ts';
import type { Gpu } from '../../src/engine/gpu/device.ts';
import { readBuffer } from '../../src/engine/gpu/readback.ts';
import { readModelSpec } from '../../src/engine/model/read-spec.ts';
import type { LoadedWeights } from '../../src/engine/weights/loaded.ts';
import { stowWeights } from '../../src/engine/weights/stow.ts';
import type { SleepLevel } from '../../src/protocol/messages.ts';
import { DeviceCount } from '../support/device-count.ts';
import { folderFiles } from '../support/folder-files.ts';
import { adapterFiles, randomAdapter } from '../support/lora-adapter.ts';
import { openDawn } from './dawn.ts';
import { oracle, PICO, reference, TestEngine, type TestEngineOptions } from './test-engine.ts';

const PROMPTS = reference.cases.slice(0, 3).map(({ input_ids }) => input_ids);
const LONG = Array.from({ length: 70 }, (_, i) => 200 + i);

let engine: TestEngine | null = null;
afterEach(async () => {
  await engine?.close();
  engine = null;
});

/** An engine, what its device holds, and how many bytes of weight files were read. */
async function setUp(options: TestEngineOptions = {}) {
  const gpu: Gpu = await openDawn();
  const count = new DeviceCount(gpu.device);
  const read = { bytes: 0 };
  const made = await TestEngine.create({
    files: counted(folderFiles(PICO), read),
    gpu,
    maxNumSeqs: 4,
    maxModelLen: 256,
    numGpuBlocksOverride: 64,
    ...options,
  });
  engine = made;
  return { engine: made, device: gpu.device, count, read };
}

function counted(files: ModelFiles, read: { bytes: number }): ModelFiles {
  const open: ModelFiles['open'] = async (path, from) => {
    const stream = await files.open(path, from);
    if (!path.endsWith('.safetensors')) return stream;
    const tally = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        read.bytes += chunk.byteLength;
        controller.enqueue(chunk);
      },
    });
    return stream.pipeThrough(tally);
  };
  return { ...files, open };
}

const answers = async (from: TestEngine) =>
  (await Promise.all(PROMPTS.map((prompt) => from.one(prompt, { maxTokens: 12, logprobs: 3 })))).map(
    ({ tokens, logprobs }) => ({ tokens, logprobs }),
  );

describe.each<[string, SleepLevel, TestEngineOptions]>([
  ['level 1', 1, {}],
  ['level 2', 2, {}],
  ['level 1, int8', 1, { quantization: 'int8' }],
  ['level 2, int8, K and V too', 2, { quantization: 'int8', kvCacheDtype: 'int8' }],
])('%s', (_, level, options) => {
  it('frees the GPU, and wakes up as what it was, again and again', async () => {
    const { engine, count, read } = await setUp(options);
    const before = await answers(engine);
    await engine.one(LONG);
    expect((await engine.one(LONG)).cachedTokens).toBe(64);
    const alive = new Map(count.alive);
    const fileBytes = read.bytes;
    const { info } = engine.engine;
    expect(fileBytes).toBeGreaterThan(100_000);
    for (let round = 1; round <= 2; round++) {
      const asleep = await engine.sleep(level);
      // What belongs to the compiled shaders stays: some words each.
      expect([...count.alive.keys()]).toEqual(['params']);
      expect(count.bytes).toBeLessThan(8192);
      expect(asleep.keptBytes).toBe(level === 1 ? engine.weightBytes : 0);
      const { pipelines } = count;
      await asleep.wake();
      // Whoever quantizes while it loads compiles what does that.
      expect(count.pipelines).toBe(pipelines + (level === 2 && options.quantization ? 1 : 0));
      expect(read.bytes).toBe(level === 1 ? fileBytes : (1 + round) * fileBytes);
      expect(engine.engine.info).toEqual(info);
      expect(engine.engine.snapshot()).toEqual({ lastEventId: 0, blocks: [] });
      expect((await engine.one(LONG)).cachedTokens).toBe(0);
      expect((await engine.one(LONG)).cachedTokens).toBe(64);
      expect(await answers(engine)).toEqual(before);
      expect(new Map(count.alive)).toEqual(alive);
    }
  });
});

it('an engine in the middle of its steps ends them, and frees the same', async () => {
  const { engine, count } = await setUp();
  const running = Promise.all([
    engine.generate(LONG, { maxTokens: 100 }, 3),
    engine.one(PROMPTS[0]!, { maxTokens: 100 }),
  ]);
  void running.catch(() => {});
  while (engine.tokensOf('r0') < 6) await new Promise((resolve) => setTimeout(resolve, 1));
  const slept = engine.engine;
  const asleep = await engine.sleep(1);
  expect([...count.alive.keys()]).toEqual(['params']);
  expect(() => slept.add({ request: 'late', prompt: [1], choices: [], sampling: {} as never })).toThrow(/closed/);
  await asleep.wake();
  expect((await engine.one(PROMPTS[1]!, { maxTokens: 8 })).tokens).toEqual(reference.cases[1]!.output_ids.slice(0, 8));
});

it.each([1, 2] as const)('level %d: a wrong upload does not serve', async (level) => {
  const { engine, device } = await setUp({ golden: true });
  const asleep = await engine.sleep(level);
  const write = device.queue.writeBuffer.bind(device.queue);
  let spoiledBytes = 0;
  const spoiled = (buffer: GPUBuffer, ...[at, data, from, size]: [number, ArrayBuffer, number?, number?]) => {
    if (buffer.label !== 'layer 0 qkv') return write(buffer, at, data, from, size);
    const zeros = new Uint8Array(size ?? data.byteLength);
    spoiledBytes += zeros.byteLength;
    write(buffer, at, zeros);
  };
  device.queue.writeBuffer = spoiled as typeof write;
  await expect(asleep.wake()).rejects.toMatchObject({ code: 'self_test' });
  expect(spoiledBytes).toBeGreaterThan(1000);
});

it('a device that is lost in its sleep does not wake up', async () => {
  const { engine, device } = await setUp();
  const asleep = await engine.sleep(1);
  device.destroy();
  await device.lost;
  await expect(asleep.wake()).rejects.toMatchObject({ code: 'device_lost' });
});

it('weights come back byte for byte, however their buffers are cut into chunks', async () => {
  const { device } = await openDawn();
  const sizes = [16, 16 << 20, (16 << 20) + 4, 40 << 20, 20];
  const words = (i: number) =>
    Uint32Array.from({ length: sizes[i]! / 4 }, (_, at) => Math.imul(at + 1, 2654435761) ^ i);
  const loaded = (buffers: readonly GPUBuffer[]): LoadedWeights =>
    ({
      buffers,
      bytes: sizes.reduce((a, b) => a + b, 0),
      over: (moved: ReadonlyMap<GPUBuffer, GPUBuffer>) => loaded(buffers.map((buffer) => moved.get(buffer)!)),
    }) as unknown as LoadedWeights;
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const buffers = sizes.map((size, i) => {
    const buffer = device.createBuffer({ label: `weight ${i}`, size, usage });
    device.queue.writeBuffer(buffer, 0, words(i));
    return buffer;
  });
  const stowed = await stowWeights(device, loaded(buffers));
  for (const buffer of buffers) buffer.destroy();
  for (let round = 0; round < 2; round++) {
    const back = await stowed.restore();
    expect(back.buffers.map(({ label, size, usage }) => ({ label, size, usage }))).toEqual(
      buffers.map(({ label, size, usage }) => ({ label, size, usage })),
    );
    for (const [i, buffer] of back.buffers.entries()) {
      expect(Buffer.from(await readBuffer(device, buffer)).equals(Buffer.from(words(i).buffer))).toBe(true);
      buffer.destroy();
    }
  }
  device.destroy();
});

it('two engines of one GPU sleep and wake together, and share the weights again', async () => {
  const { engine, count } = await setUp({ engines: 2 });
  const before = await answers(engine);
  const alive = new Map(count.alive);
  const asleep = await engine.sleep(1);
  expect([...count.alive.keys()]).toEqual(['params']);
  expect(asleep.keptBytes).toBe(engine.weightBytes);
  await asleep.wake();
  expect(new Map(count.alive)).toEqual(alive);
  expect(engine.engines).toHaveLength(2);
  for (const each of engine.engines) {
    engine.engine = each;
    expect(await answers(engine)).toEqual(before);
    expect(each.load().counters.sampledTokens).toBe(3 * 12);
  }
});

it('LoRA adapters leave the GPU too, and give the same once they are loaded again', async () => {
  const folder = oracle('qwen3');
  const { engine, count } = await setUp({ files: folderFiles(folder), maxLoras: 2, maxLoraRank: 8 });
  const adapter = await randomAdapter(await readModelSpec(folderFiles(folder)), { seed: 1 });
  const prompt = Array.from({ length: 20 }, (_, i) => (i * 31 + 7) % 90);
  const ask = (name?: string) => engine.one(prompt, { maxTokens: 6, logprobs: 2 }, name);
  await engine.engine.loras!.load('tuned', adapterFiles(adapter));
  const [plain, tuned] = [await ask(), await ask('tuned')];
  expect(tuned.logprobs).not.toEqual(plain.logprobs);
  const asleep = await engine.sleep(1);
  expect([...count.alive.keys()]).toEqual(['params']);
  await asleep.wake();
  expect(engine.engine.loras!.names).toEqual([]);
  await expect(ask('tuned')).rejects.toThrow('no LoRA adapter tuned');
  expect(await ask()).toEqual(plain);
  await engine.engine.loras!.load('tuned', adapterFiles(adapter));
  expect(await ask('tuned')).toEqual(tuned);
});
