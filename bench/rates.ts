import { median } from './table.ts';

/** Runs a prompt until so many tokens are generated, whatever they are. */
export type Generate = (prompt: number[], maxTokens: number) => Promise<unknown>;

/** Tokens per second of all sequences of a batch together. */
export interface Rates {
  readonly prefill: number;
  readonly decode: number;
}

export const BATCHES = [1, 8, 32] as const;
export const RUNS = 3;
/** Prompt tokens of all sequences together, when prefill is measured. */
export const PREFILL_TOKENS = 512;
const DECODE_TOKENS = 48;
const SHORT_PROMPT = 8;

/** Prompts that share no block with any before, so that nothing comes from the prefix cache. */
export class Prompts {
  #salt = 0;

  next(length: number): number[] {
    const salt = this.#salt++ * 131;
    return Array.from({ length }, (_, i) => 300 + ((i * 17 + salt) % 3000));
  }
}

/** Medians of `RUNS` runs, after one that compiles. */
export async function measureRates(generate: Generate, batch: number, prompts: Prompts): Promise<Rates> {
  const prefill: number[] = [];
  const decode: number[] = [];
  for (let run = 0; run <= RUNS; run++) {
    const prefillMs = await together(generate, batch, prompts, PREFILL_TOKENS / batch, 1);
    // What both have in common (prefill, latency of the first token) falls out of the difference.
    const fewMs = await together(generate, batch, prompts, SHORT_PROMPT, 2);
    const manyMs = await together(generate, batch, prompts, SHORT_PROMPT, 2 + DECODE_TOKENS);
    if (run === 0) continue;
    prefill.push((PREFILL_TOKENS * 1000) / prefillMs);
    decode.push((batch * DECODE_TOKENS * 1000) / (manyMs - fewMs));
  }
  return { prefill: median(prefill), decode: median(decode) };
}

async function together(
  generate: Generate,
  batch: number,
  prompts: Prompts,
  length: number,
  maxTokens: number,
): Promise<number> {
  const batchOf = Array.from({ length: batch }, () => prompts.next(length));
  const started = performance.now();
  await Promise.all(batchOf.map((prompt) => generate(prompt, maxTokens)));
  return performance.now() - started;
}
