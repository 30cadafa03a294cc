import {
  type Engine,
  EngineError,
  type EngineInfo,
  type EngineListener,
  type KvReservation,
  type StepRecord,
} from '../../src/engine/api.ts';
import type { Loras } from '../../src/engine/lora/loras.ts';
import type { GenerateRequest, TokensFrame } from '../../src/protocol/generate.ts';
import type { KvSnapshot } from '../../src/protocol/kv-events.ts';
import type { EngineLoad } from '../../src/protocol/messages.ts';
import { writeEmbedding } from '../../src/protocol/pooling.ts';
import type { KvSection } from '../../src/protocol/transfer.ts';
import { ScriptedKv } from './scripted-kv.ts';

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
  layers: 2,
  hiddenSize: 8,
  pools: false,
  layerBlockBytes: 64,
};

/** The token that a scripted engine gives at an offset: a plain function of prompt, choice and offset. */
export function scriptedToken(prompt: readonly number[], choice: number, offset: number, vocabSize = 1000): number {
  const sum = prompt.reduce((a, b) => (a * 31 + b) % 65_521, 7);
  return (sum + choice * 101 + offset * 13) % vocabSize;
}

interface Running {
  readonly request: GenerateRequest;
  readonly choice: number;
  /** Prompt tokens that were in the prefix cache. */
  readonly cached: number;
  /** Added to every token: 0, unless KV that came from elsewhere is not what this engine would have computed. */
  readonly shift: number;
  offset: number;
  first: boolean;
}

/**
 * An engine without a GPU: each `step` gives every running choice its next token, and computes a chunk of every
 * `prefill`. Prompts of `prefill` and committed reservations fill its prefix cache; those of `add` only read it.
 */
export class ScriptedEngine implements Engine {
  readonly info: EngineInfo;
  readonly loras: Loras | null = null;
  readonly cancelled: string[] = [];
  closed = false;
  /** false: heartbeats wait until it is true again, and then for the next `step` or call. */
  beating = true;
  readonly kv: ScriptedKv;
  private readonly hanging: { resolve: () => void; reject: (error: EngineError) => void }[] = [];
  private prefillRows = 0;
  private cachedTokens = 0;
  private running: Running[] = [];
  private sampled = 0;
  private steppedTimes = 0;

  constructor(
    private readonly listener: EngineListener,
    info: Partial<EngineInfo> = {},
  ) {
    this.info = { ...SCRIPTED_INFO, ...info };
    this.kv = new ScriptedKv(this.info);
  }

  add(request: GenerateRequest): void {
    this.check(request);
    const cached = this.kv.leading(request) * this.info.blockSize;
    const shift = this.kv.spoiled(request) ? 1 : 0;
    this.prefillRows += request.prompt.length - cached;
    this.cachedTokens += cached;
    for (const { choice, generated } of request.choices)
      this.running.push({ request, choice, cached, shift, offset: generated.length, first: true });
  }

  cancel(request: string): void {
    this.cancelled.push(request);
    this.running = this.running.filter((each) => each.request.request !== request);
    this.kv.prefills.delete(request);
  }

  prefill(request: GenerateRequest): void {
    this.check(request);
    const progress = this.kv.prefill(request);
    if (progress) this.listener.prefilled(request.request, progress);
  }

  async export(request: string, section: KvSection): Promise<ArrayBuffer> {
    return this.kv.export(request, section);
  }

  reserve(request: GenerateRequest): KvReservation | 'cached' | 'no_room' {
    this.check(request);
    return this.kv.reserve(request, () => this.tellKvEvents());
  }

  resetPrefixCache(): void {
    this.kv.cache.clear();
    this.tellKvEvents();
  }

  async heartbeat(): Promise<void> {
    if (this.closed) throw new EngineError('device_lost', 'The engine is closed.');
    if (this.beating) return;
    await new Promise<void>((resolve, reject) => this.hanging.push({ resolve, reject }));
  }

  /** One token for every running choice, and up to `maxNumBatchedTokens` rows of every prefill. */
  step(): void {
    this.steppedTimes++;
    if (this.beating) for (const { resolve } of this.hanging.splice(0)) resolve();
    for (const { request, rows, progress } of this.kv.step(this.info.maxNumBatchedTokens)) {
      this.prefillRows += rows;
      this.tellKvEvents();
      this.listener.prefilled(request, progress);
    }
    const frames = this.running.map((each) => this.next(each));
    const finished = new Set(frames.flatMap((frame, i) => (frame.finish ? [this.running[i]] : [])));
    this.running = this.running.filter((each) => !finished.has(each));
    if (frames.length > 0) this.listener.tokens(frames);
  }

  /** Everything that runs fails, as when a device is lost. */
  lose(message: string): void {
    const error = new EngineError('device_lost', message);
    this.end(error);
    this.listener.lost(error);
  }

  load(): EngineLoad {
    return {
      running: this.running.length,
      waiting: 0,
      usedBlocks: this.running.length + this.kv.reserved,
      totalBlocks: this.info.totalBlocks,
      tokensPerSecond: 0,
      counters: {
        steps: this.steppedTimes,
        mixedSteps: 0,
        submits: this.steppedTimes,
        overlappedSubmits: 0,
        rows: this.sampled,
        decodeRows: this.sampled,
        prefillRows: this.prefillRows,
        sampledTokens: this.sampled,
        cachedTokens: this.cachedTokens,
        draftTokens: 0,
        acceptedTokens: 0,
        preemptions: 0,
      },
    };
  }

  steps(): StepRecord[] {
    return [];
  }

  snapshot(): KvSnapshot {
    return this.kv.cache.snapshot();
  }

  blockMap(): Uint8Array {
    return new Uint8Array(this.info.totalBlocks);
  }

  async close(): Promise<void> {
    this.end(new EngineError('internal', 'The engine is closed.'));
  }

  private end(error: EngineError): void {
    this.closed = true;
    this.running = [];
    this.kv.prefills.clear();
    this.kv.reservations.clear();
    for (const { reject } of this.hanging.splice(0)) reject(error);
  }

  private check(request: GenerateRequest): void {
    if (this.closed) throw new EngineError('internal', 'The engine is closed.');
    if (request.prompt.length < this.info.maxModelLen) return;
    const message = `The prompt has ${request.prompt.length} tokens; this engine takes ${this.info.maxModelLen}.`;
    throw new EngineError('invalid_request', message);
  }

  private tellKvEvents(): void {
    const events = this.kv.cache.takeEvents();
    if (events.length > 0) this.listener.kvEvents(events);
  }

  private next(each: Running): TokensFrame {
    const { request, choice, offset } = each;
    const { sampling, prompt, pooling } = request;
    if (pooling) {
      const values = Float32Array.from({ length: pooling.dimensions }, (_, i) => prompt[i % prompt.length]!);
      const plain = { request: request.request, choice, offset, tokens: [], cachedTokens: each.cached };
      return { ...plain, embedding: writeEmbedding(values), finish: 'length' };
    }
    const token = (scriptedToken(prompt, choice, offset, this.info.vocabSize) + each.shift) % this.info.vocabSize;
    const frame: TokensFrame = { request: request.request, choice, offset, tokens: [token] };
    if (each.first) frame.cachedTokens = each.cached;
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
