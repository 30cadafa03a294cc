import { TestEngine } from '../test/gpu/test-engine.ts';
import { CompileTimes } from './compile-times.ts';
import { short, table } from './table.ts';

/** What each shader of quire-pico takes to compile, one after the other: all variants of rows from start to a batch of 32. */
export async function benchCompile(): Promise<string> {
  const times = new CompileTimes(true);
  try {
    const test = await TestEngine.create();
    for (const batch of [1, 2, 4, 8, 16, 32]) {
      const prompts = Array.from({ length: batch }, (_, i) => [300 + i, 301, 302]);
      await Promise.all(prompts.map((prompt) => test.one(prompt, { maxTokens: 2, logprobs: 1, temperature: 1 })));
    }
    await test.close();
  } finally {
    times.stop();
  }
  const byShader = new Map<string, number[]>();
  for (const { shader, ms } of times.compiles) byShader.set(shader, [...(byShader.get(shader) ?? []), ms]);
  const sum = (all: readonly number[]) => all.reduce((a, b) => a + b, 0);
  const rows = [...byShader]
    .sort((a, b) => sum(b[1]) - sum(a[1]))
    .map(([shader, ms]) => [shader, ms.length, short(sum(ms)), short(sum(ms) / ms.length), short(Math.max(...ms))]);
  const all = times.compiles.map(({ ms }) => ms);
  const total = ['all', all.length, short(sum(all)), short(sum(all) / all.length), short(Math.max(...all))];
  return table(
    'Compiling the shaders of quire-pico in Node, one after the other, ms',
    ['shader', 'variants', 'together', 'mean', 'longest'],
    [...rows, total],
  );
}
