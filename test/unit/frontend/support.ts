import { readFileSync } from 'node:fs';
import OpenAI from 'openai';
import * as z from 'zod';
import { createApi } from '../../../src/frontend/api.ts';
import type { Backend, ServedModel } from '../../../src/frontend/backend.ts';
import { type FrontendMetrics, NO_METRICS } from '../../../src/frontend/metrics.ts';
import type { StoreBounds } from '../../../src/frontend/responses/response-store.ts';
import { type ChatTokenizer, loadChatTokenizer } from '../../../src/frontend/tokenizer.ts';
import { type Clock, systemClock } from '../../../src/protocol/clock.ts';
import { GenerateRequest, type TokenLogprob, type TokensFrame } from '../../../src/protocol/generate.ts';

const root = new URL('../../../', import.meta.url);
export const readJson = (path: string): unknown => JSON.parse(readFileSync(new URL(path, root), 'utf8'));

export const PICO_FILES = {
  tokenizerJson: readJson('models/quire-pico/tokenizer.json'),
  tokenizerConfig: readJson('models/quire-pico/tokenizer_config.json'),
};
export const pico: ChatTokenizer = loadChatTokenizer(PICO_FILES);
export const EOS = 2;

// JSON.stringify writes -0 as 0.
const logprob = z.number().transform((value) => value + 0);
const Step = z.object({ token: z.number(), logprob, top: z.array(z.tuple([z.number(), logprob])) });
/** Greedy answers of quire-pico by the reference implementation, special tokens shown. */
export const reference = z
  .object({
    cases: z.array(
      z.object({
        messages: z.array(z.record(z.string(), z.unknown())).optional(),
        tools: z.array(z.unknown()).optional(),
        enable_thinking: z.boolean().optional(),
        prompt: z.string().optional(),
        input_ids: z.array(z.number()),
        output_ids: z.array(z.number()),
        text: z.string(),
        steps: z.array(Step),
        prompt_logprobs: z.array(z.number()),
      }),
    ),
  })
  .parse(readJson('test/fixtures/quire-pico/reference.json')).cases;

export interface Script {
  /** What the model would say for a choice if nothing stopped it. */
  tokens(request: GenerateRequest, choice: number): readonly number[];
  /** Tokens in a frame (1). */
  readonly frame?: number;
  readonly cached?: number;
  /** Awaited before each frame. */
  pause?(request: GenerateRequest, frame: number, signal: AbortSignal): Promise<void> | void;
}

/** A backend that says what a script says, under the rules of `Backend`: stop ids, bounds, logprobs, all choices in turn. */
export class ScriptedBackend implements Backend {
  readonly requests: GenerateRequest[] = [];
  readonly signals: AbortSignal[] = [];
  framesGiven = 0;

  constructor(readonly script: Script) {}

  async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<TokensFrame, void, void> {
    this.requests.push(GenerateRequest.parse(request));
    this.signals.push(signal);
    const { sampling } = request;
    const step = this.script.frame ?? 1;
    const rests = request.choices.map(({ choice }) => ({
      choice,
      said: this.script.tokens(request, choice),
      offset: 0,
    }));
    let running = [...rests];
    for (let round = 0; running.length > 0; round++) {
      for (const rest of running) {
        await this.script.pause?.(request, round, signal);
        if (signal.aborted) return;
        const tokens: number[] = [];
        let finish: Pick<TokensFrame, 'finish' | 'stopId'> = {};
        while (tokens.length < step && finish.finish === undefined) {
          const id = rest.said[rest.offset + tokens.length] ?? EOS;
          tokens.push(id);
          if (sampling.stopIds.includes(id)) finish = { finish: 'stop', stopId: id };
          else if (rest.offset + tokens.length === sampling.maxTokens) finish = { finish: 'length' };
        }
        this.framesGiven++;
        yield {
          request: request.request,
          choice: rest.choice,
          offset: rest.offset,
          tokens,
          ...(sampling.logprobs === null
            ? {}
            : { logprobs: tokens.map((token) => scriptedLogprob(token, sampling.logprobs ?? 0)) }),
          ...(rest.offset > 0 || sampling.promptLogprobs === null
            ? {}
            : {
                promptLogprobs: request.prompt.map((token, at) =>
                  at === 0 ? null : scriptedLogprob(token, sampling.promptLogprobs ?? 0),
                ),
              }),
          ...(rest.offset === 0 ? { cachedTokens: this.script.cached ?? 0 } : {}),
          ...finish,
        };
        rest.offset += tokens.length;
        if (finish.finish !== undefined) running = running.filter((other) => other !== rest);
      }
    }
  }
}

/** The token is always the second likeliest; the likeliest ones are ids 100, 101, ... */
function scriptedLogprob(token: number, top: number): TokenLogprob {
  const likeliest = [100, token, 101, 102, 103];
  return {
    token,
    logprob: -0.75,
    rank: 2,
    top: likeliest.slice(0, top).map((id, at): [number, number] => [id, at === 1 ? -0.75 : -0.5 - at]),
  };
}

export function servedModel(backend: Backend, change: Partial<ServedModel> = {}): ServedModel {
  return {
    name: 'quire-pico',
    parent: null,
    created: 1_700_000_000,
    maxModelLen: () => 2048,
    tokenizer: pico,
    parsers: { toolCalls: 'hermes', reasoning: 'qwen3' },
    eosIds: [EOS, 0],
    generationDefaults: { temperature: 0.7, topP: 0.95, topK: 40 },
    vocabSize: 4096,
    hiddenSize: 4,
    pooler: null,
    backend,
    ...change,
  };
}

export interface TestApi {
  readonly fetch: (url: string, init?: RequestInit) => Promise<Response>;
  readonly post: (path: string, body: unknown) => Promise<Response>;
  readonly client: OpenAI;
  readonly internalErrors: unknown[];
}

export const SEED: [number, number] = [11, 22];

/** The API over `models`, called without any network: by `fetch`, and by the official client. */
export function testApi(
  models: readonly ServedModel[],
  change: {
    metrics?: FrontendMetrics;
    maxBodyBytes?: number;
    now?: () => number;
    after?: Clock['after'];
    timeoutSeconds?: number;
    promptEmbeds?: boolean;
    priorities?: boolean;
    storedResponses?: StoreBounds;
    keepAliveSeconds?: number;
  } = {},
): TestApi {
  const internalErrors: unknown[] = [];
  const api = createApi({
    models: () => models,
    maxBodyBytes: change.maxBodyBytes ?? 1 << 20,
    drawSeed: () => SEED,
    now: change.now ?? (() => 1_700_000_000_123),
    after: change.after ?? systemClock.after,
    timeoutSeconds: change.timeoutSeconds ?? null,
    promptEmbeds: change.promptEmbeds ?? false,
    storedResponses: change.storedResponses ?? { most: 16, mostBytes: 1 << 20 },
    priorities: change.priorities ?? false,
    keepAliveSeconds: change.keepAliveSeconds ?? null,
    metrics: change.metrics ?? NO_METRICS,
    internalError: (error) => internalErrors.push(error),
  });
  const fetch = async (url: string, init?: RequestInit) =>
    api.fetch(new Request(new URL(url, 'http://quire.test'), init));
  return {
    fetch,
    post: (path, body) =>
      fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    client: new OpenAI({
      baseURL: 'http://quire.test/v1',
      apiKey: 'none',
      maxRetries: 0,
      fetch: (url, init) => fetch(String(url), init),
    }),
    internalErrors,
  };
}

/** The scripted model says a text, then ends. */
export const saying = (text: string): Script => ({ tokens: () => [...pico.encode(text, false), EOS] });
