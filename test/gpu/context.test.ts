import { expect, test } from 'vitest';
import { oracle, TestEngine } from './test-engine.ts';

const folder = oracle('qwen3');
const create = (options: Parameters<typeof TestEngine.create>[0]) =>
  TestEngine.create({ folder, maxNumSeqs: 2, ...options });

test('a pool smaller than the model’s context sets the context, and a request may fill it', async () => {
  const engine = await create({ numGpuBlocksOverride: 3, blockSize: 16 });
  expect(engine.engine.info).toMatchObject({ totalBlocks: 3, maxModelLen: 48 });
  const [choice] = await engine.generate([1, 2, 3], { maxTokens: 45, temperature: 0, stopIds: [] });
  expect(choice?.tokens).toHaveLength(45);
  await engine.close();
});

test('a context that somebody asked for and that the pool or the model has not is refused with both numbers', async () => {
  await expect(create({ numGpuBlocksOverride: 3, blockSize: 16, maxModelLen: 64 })).rejects.toThrow(/48.*64/);
  await expect(create({ maxModelLen: 513 })).rejects.toThrow(/513.*512/);
});
