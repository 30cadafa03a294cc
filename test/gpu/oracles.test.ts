import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { oracle, TestEngine } from './test-engine.ts';

interface OracleCase {
  input_ids: number[];
  logprobs: number[];
  logits: number[];
  greedy: number[];
  greedy_margins: number[];
}

const LOGIT_TOLERANCE = 2e-3;
const TIE = 4e-3;

/** Log-softmax in float64. */
function logSoftmax(logits: readonly number[]): number[] {
  const largest = Math.max(...logits);
  const sum = logits.reduce((s, v) => s + Math.exp(v - largest), 0);
  return logits.map((v) => v - largest - Math.log(sum));
}

describe.each(['qwen3', 'qwen3-f16', 'llama', 'llama-tied-bf16', 'qwen2', 'mistral', 'gemma3', 'phi3', 'qwen3-moe'])(
  '%s against the reference implementation',
  (name) => {
    const { cases } = JSON.parse(readFileSync(`${oracle(name)}/expected.json`, 'utf8')) as { cases: OracleCase[] };

    test('logprobs of prompts, top logprobs and greedy tokens', async () => {
      const engine = await TestEngine.create({ folder: oracle(name), numGpuBlocksOverride: 128, maxNumSeqs: 8 });
      const all = await Promise.all(
        cases.map((c) => engine.one(c.input_ids, { maxTokens: c.greedy.length, logprobs: 20, promptLogprobs: 0 })),
      );
      expect(engine.engine.steps().some((s) => s.decodeRows > 1)).toBe(true);
      for (const [n, c] of cases.entries()) {
        const got = all[n]!;
        for (const [i, logprob] of c.logprobs.entries()) {
          expect(Math.abs(got.promptLogprobs![i + 1]!.logprob - logprob)).toBeLessThan(LOGIT_TOLERANCE);
        }
        const expected = logSoftmax(c.logits);
        for (const [id, logprob] of got.logprobs[0]!.top)
          expect(Math.abs(logprob - expected[id]!)).toBeLessThan(LOGIT_TOLERANCE);
        const firstTie = c.greedy_margins.findIndex((m) => m < TIE);
        const sure = firstTie < 0 ? c.greedy.length : firstTie;
        expect(got.tokens.slice(0, sure)).toEqual(c.greedy.slice(0, sure));
      }
      await engine.close();
    });
  },
);
