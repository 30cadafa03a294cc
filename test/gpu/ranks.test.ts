import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, EngineError } from '../../src/engine/api.ts';
import { createEngines } from '../../src/engine/create-engine.ts';
import { readModelJson } from '../../src/engine/files/source.ts';
import type { Gpu } from '../../src/engine/gpu/device.ts';
import { modelSpec } from '../../src/engine/model/config.ts';
import { Golden } from '../../src/engine/self-test.ts';
import { loadWeights } from '../../src/engine/weights/weights.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import type { KvEvent } from '../../src/protocol/kv-events.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { folderFiles } from '../support/folder-files.ts';
import { openDawn, shaders } from './dawn.ts';
import { DEFAULTS, PICO, reference } from './test-engine.ts';

const CASES = reference.cases.slice(0, 2);

/** Two engines over one copy of the weights, with what each told. */
describe('two engines of one device', () => {
  let gpu: Gpu;
  let engines: readonly Engine[];
  const events: [KvEvent[], KvEvent[]] = [[], []];
  const tokens = [new Map<string, number[]>(), new Map<string, number[]>()] as const;
  const lost: EngineError[] = [];
  let ended = () => {};

  beforeAll(async () => {
    gpu = await openDawn();
    const files = folderFiles(PICO);
    const spec = modelSpec(await readModelJson(files, 'config.json'));
    const load = () => loadWeights(gpu.device, spec, files);
    const group = await createEngines({
      gpu,
      shaders,
      spec,
      weights: await load(),
      reload: load,
      model: 'test',
      fingerprint: 'test',
      hasher: await createBlockHasher('xxh3'),
      golden: Golden.parse(await readModelJson(files, 'self-test.json')),
      grammars: null,
      options: { ...DEFAULTS, engines: 2, numGpuBlocksOverride: 64, maxModelLen: 512, maxNumSeqs: 4 },
      now: () => performance.now(),
      listener: (i) => ({
        tokens(frames) {
          for (const frame of frames) {
            const { request, finish } = frame;
            tokens[i === 0 ? 0 : 1].set(request, [...(tokens[i === 0 ? 0 : 1].get(request) ?? []), ...frame.tokens]);
            if (finish) ended();
          }
        },
        kvEvents: (told) => void events[i === 0 ? 0 : 1].push(...told),
        prefilled() {},
        failed() {},
        lost: (error) => void lost.push(error),
      }),
    });
    engines = group.engines;
  });
  afterAll(() => engines[0]?.close());

  const run = (asked: readonly (readonly [engine: number, request: string, prompt: number[]])[]) =>
    new Promise<void>((resolve) => {
      let left = asked.length;
      ended = () => {
        left -= 1;
        if (left === 0) resolve();
      };
      for (const [engine, request, prompt] of asked) {
        const sampling = { ...GREEDY, maxTokens: 8 };
        engines[engine]!.add({ request, prompt, choices: [{ choice: 0, generated: [] }], sampling });
      }
    });

  test('compute side by side, each what it computes alone', async () => {
    await run(CASES.flatMap(({ input_ids }, i) => [0, 1].map((e) => [e, `case ${i}`, input_ids] as const)));
    for (const of of tokens)
      for (const [i, { output_ids }] of CASES.entries()) expect(of.get(`case ${i}`)).toEqual(output_ids.slice(0, 8));
    for (const engine of engines) expect(engine.load().counters.decodeRows).toBeGreaterThan(7);
  });

  test('have pools and caches of their own: what one has stored the other computes', async () => {
    expect(events[0].length).toBeGreaterThan(0);
    expect(events[1]).toEqual(events[0]);
    const prompt = Array.from({ length: 49 }, (_, i) => 200 + i);
    await run([[0, 'first', prompt]]);
    const before = engines.map((engine) => engine.load().counters);
    await run([
      [0, 'again', prompt],
      [1, 'elsewhere', prompt],
    ]);
    const after = engines.map((engine) => engine.load().counters);
    expect(after[0]!.cachedTokens - before[0]!.cachedTokens).toBe(48);
    expect(after[1]!.cachedTokens - before[1]!.cachedTokens).toBe(0);
    expect(after[1]!.prefillRows - before[1]!.prefillRows).toBe(49);
    expect(tokens[1].get('elsewhere')).toEqual(tokens[0].get('first'));
  });

  test('are lost together with their device', async () => {
    gpu.device.destroy();
    await gpu.device.lost;
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(lost.map(({ code }) => code)).toEqual(['device_lost', 'device_lost']);
  });
});
