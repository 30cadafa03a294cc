import { expect } from 'vitest';
import type { GrammarListener, GrammarMatcher, GrammarWish } from '../../../src/engine/grammar.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';
import { SimulatedEngine, type SimulatedEngineOptions } from './simulated-engine.ts';

const hasher = await createBlockHasher('xxh3');
export const PROMPT = [1, 2, 3, 4, 5, 6];

/** The toy grammar: token number i is (3 i) % 7 or the id after it. */
const allowed = (offset: number) => [(3 * offset) % 7, ((3 * offset) % 7) + 1];
export const follows = (tokens: readonly number[]) => tokens.every((token, i) => allowed(i).includes(token));

interface OpenMatch {
  readonly wish: GrammarWish;
  readonly listener: GrammarListener;
  readonly accepted: number[];
  open: boolean;
}

/** Masks of the toy grammar, or of another one, told when the test says so, or at once with `prompt`. */
export class ToyMatcher implements GrammarMatcher {
  readonly matches: OpenMatch[] = [];
  prompt = true;
  allowed = allowed;

  open(wish: GrammarWish, listener: GrammarListener) {
    const match: OpenMatch = { wish, listener, accepted: [...wish.generated], open: true };
    this.matches.push(match);
    if (this.prompt) void Promise.resolve().then(() => this.tell(match));
    return {
      accept: (token: number) => {
        expect(this.allowed(match.accepted.length)).toContain(token);
        match.accepted.push(token);
        if (this.prompt) void Promise.resolve().then(() => this.tell(match));
      },
      close: () => {
        match.open = false;
      },
    };
  }

  tell(match: OpenMatch): void {
    if (!match.open) return;
    const mask = new Uint32Array(1);
    for (const id of this.allowed(match.accepted.length)) mask[0]! |= 1 << id;
    match.listener.mask(mask);
  }
}

export function engineOf(options: Partial<SimulatedEngineOptions> = {}) {
  const matcher = new ToyMatcher();
  const engine = new SimulatedEngine({ hasher, totalBlocks: 64, blockSize: 4, grammars: matcher, ...options });
  return { engine, matcher };
}

export function requestOf(request: string, sampling: Partial<SamplingParams>, rest: Partial<GenerateRequest> = {}) {
  return {
    request,
    prompt: PROMPT,
    choices: [{ choice: 0, generated: [] }],
    sampling: { ...GREEDY, ...sampling },
    ...rest,
  } satisfies GenerateRequest;
}

export async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await new Promise<void>((resolve) => setImmediate(resolve));
  expect(holds()).toBe(true);
}
