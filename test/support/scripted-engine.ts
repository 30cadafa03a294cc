import {
  type Engine,
  EngineError,
  type EngineInfo,
  type EngineListener,
  type StepRecord,
} from '../../src/engine/api.ts';
import type { GenerateRequest, TokensFrame } from '../../src/protocol/generate.ts';
import type { KvSnapshot } from '../../src/protocol/kv-events.ts';
import type { Load } from '../../src/protocol/messages.ts';

export const SCRIPTED_INFO: EngineInfo = {
  model: 'scripted',
  fingerprint: 'f'.repeat(64),
  numericsId: 'scripted',
  adapter: { vendor: 'test', architecture: '', device: '', description: 'scripted', software: false, features: [] },
  blockSize: 16,
  totalBlocks: 64,
  maxModelLen: 256,
  maxNumSeqs: 8,
  maxNumBatchedTokens: 64,
  kvCacheDtype: 'f32',
  vocabSize: 1000,
};

/** The token that a scripted engine gives at an offset: a plain function of prompt, choice and offset. */
export function scriptedToken(prompt: readonly number[], choice: number, offset: number, vocabSize = 1000): number {
  const sum = prompt.reduce((a, b) => (a * 31 + b) % 65_521, 7);
  return (sum + choice * 101 + offset * 13) % vocabSize;
}

interface Running {
  readonly request: GenerateRequest;
  readonly choice: number;
  offset: number;
  first: boolean;
}

/** An engine without a GPU: each `step` gives every running choice its next token. */
export class ScriptedEngine implements Engine {
  readonly info: EngineInfo;
  readonly cancelled: string[] = [];
  closed = false;
  private running: Running[] = [];
  private sampled = 0;
  private steppedTimes = 0;

  constructor(
    private readonly listener: EngineListener,
    info: Partial<EngineInfo> = {},
  ) {
    this.info = { ...SCRIPTED_INFO, ...info };
  }

  add(request: GenerateRequest): void {
    if (this.closed) throw new EngineError('internal', 'The engine is closed.');
    if (request.prompt.length >= this.info.maxModelLen) {
      const message = `The prompt has ${request.prompt.length} tokens; this engine takes ${this.info.maxModelLen}.`;
      throw new EngineError('invalid_request', message);
    }
    for (const { choice, generated } of request.choices)
      this.running.push({ request, choice, offset: generated.length, first: true });
  }

  cancel(request: string): void {
    this.cancelled.push(request);
    this.running = this.running.filter((each) => each.request.request !== request);
  }

  /** One token for every running choice. */
  step(): void {
    this.steppedTimes++;
    const frames = this.running.map((each) => this.next(each));
    const finished = new Set(frames.flatMap((frame, i) => (frame.finish ? [this.running[i]] : [])));
    this.running = this.running.filter((each) => !finished.has(each));
    if (frames.length > 0) this.listener.tokens(frames);
  }

  /** Everything that runs fails, as when a device is lost. */
  lose(message: string): void {
    this.closed = true;
    this.running = [];
    this.listener.lost(new EngineError('device_lost', message));
  }

  load(): Load {
    return {
      rank: 0,
      running: this.running.length,
      waiting: 0,
      usedBlocks: this.running.length,
      totalBlocks: this.info.totalBlocks,
      tokensPerSecond: 0,
      counters: {
        steps: this.steppedTimes,
        mixedSteps: 0,
        submits: this.steppedTimes,
        overlappedSubmits: 0,
        rows: this.sampled,
        decodeRows: this.sampled,
        prefillRows: 0,
        sampledTokens: this.sampled,
        cachedTokens: 0,
        preemptions: 0,
      },
    };
  }

  steps(): StepRecord[] {
    return [];
  }

  snapshot(): KvSnapshot {
    return { lastEventId: 0, blocks: [] };
  }

  blockMap(): Uint8Array {
    return new Uint8Array(this.info.totalBlocks);
  }

  async close(): Promise<void> {
    this.closed = true;
    this.running = [];
  }

  private next(each: Running): TokensFrame {
    const { request, choice, offset } = each;
    const { sampling, prompt } = request;
    const token = scriptedToken(prompt, choice, offset, this.info.vocabSize);
    const frame: TokensFrame = { request: request.request, choice, offset, tokens: [token] };
    if (each.first) frame.cachedTokens = 0;
    if (sampling.logprobs !== null) frame.logprobs = [{ token, logprob: 0, rank: 1, top: [] }];
    each.first = false;
    each.offset++;
    this.sampled++;
    if (each.offset >= sampling.minTokens && sampling.stopIds.includes(token))
      return { ...frame, finish: 'stop', stopId: token };
    if (each.offset >= sampling.maxTokens) return { ...frame, finish: 'length' };
    return frame;
  }
}
