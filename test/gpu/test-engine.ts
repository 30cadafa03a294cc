import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Engine, EngineError, EngineGroup, EngineListener } from '../../src/engine/api.ts';
import { createEngines, type EngineOptions } from '../../src/engine/create-engine.ts';
import { type ModelFiles, readModelJson } from '../../src/engine/files/source.ts';
import { withRopeFactors } from '../../src/engine/gguf/spec.ts';
import type { Gpu } from '../../src/engine/gpu/device.ts';
import type { ShaderLibrary } from '../../src/engine/gpu/shader-source.ts';
import type { GrammarMatcher } from '../../src/engine/grammar.ts';
import { readModelSpec } from '../../src/engine/model/read-spec.ts';
import type { TensorRole } from '../../src/engine/model/spec.ts';
import { Golden } from '../../src/engine/self-test.ts';
import type { DtypeOption, QuantizationOption } from '../../src/engine/weights/weight-plan.ts';
import { loadWeights } from '../../src/engine/weights/weights.ts';
import { fromBase64 } from '../../src/protocol/base64.ts';
import type { GenerateRequest, TokenLogprob, TokensFrame } from '../../src/protocol/generate.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import type { KvEvent } from '../../src/protocol/kv-events.ts';
import type { SleepLevel } from '../../src/protocol/messages.ts';
import { GREEDY, type SamplingParams } from '../../src/protocol/sampling.ts';
import { folderFiles } from '../support/folder-files.ts';
import { shaders, sharedDawn } from './dawn.ts';

export const PICO = fileURLToPath(new URL('../../models/quire-pico', import.meta.url));
export const oracle = (name: string): string => fileURLToPath(new URL(`../fixtures/oracles/${name}`, import.meta.url));

/** One case of `reference.json`: what the reference implementation gives for a prompt, greedily. */
export interface ReferenceCase {
  readonly input_ids: number[];
  readonly output_ids: number[];
  readonly text: string;
  readonly steps: { token: number; logprob: number; top: [number, number][] }[];
  readonly prompt_logprobs: number[];
}
export const reference = JSON.parse(
  readFileSync(new URL('../fixtures/quire-pico/reference.json', import.meta.url), 'utf8'),
) as { cases: ReferenceCase[] };

/** Everything one choice gave. */
export interface Collected {
  tokens: number[];
  logprobs: TokenLogprob[];
  promptLogprobs: (TokenLogprob | null)[] | null;
  cachedTokens: number;
  finish: string;
  embedding?: Float32Array;
}

export interface TestEngineOptions extends Partial<EngineOptions> {
  readonly folder?: string;
  readonly files?: ModelFiles;
  readonly shaders?: ShaderLibrary;
  /** Default: the one that the engines of a file share. */
  readonly gpu?: Gpu;
  /** The self-test asks the model's known answers, which takes longer than one layer on the CPU. */
  readonly golden?: boolean;
  readonly grammars?: GrammarMatcher;
  readonly dtype?: DtypeOption;
  readonly quantization?: QuantizationOption;
  /** It gives embeddings. */
  readonly pools?: boolean;
  /** Of one buffer of weights. */
  readonly maxBufferBytes?: number;
  /** Kernels for GPUs, on a software adapter too. */
  readonly wide?: boolean;
}

export const DEFAULTS: EngineOptions = {
  engines: 1,
  blockSize: 16,
  kvCacheDtype: 'f32',
  maxModelLen: null,
  maxNumSeqs: 32,
  maxNumBatchedTokens: 128,
  numGpuBlocksOverride: 512,
  maxLoras: 0,
  maxLoraRank: 16,
  gpuMemoryUtilization: null,
  enablePrefixCaching: true,
  enforceEager: false,
  batchInvariant: true,
  freeOrder: null,
  speculation: null,
};

/** A real engine on Dawn, and promises of what requests give. */
export class TestEngine {
  readonly events: KvEvent[] = [];
  private readonly waiting = new Map<
    string,
    {
      choices: Map<number, Collected>;
      left: number;
      resolve: (c: Collected[]) => void;
      reject: (e: Error) => void;
      /** Tokens of earlier attempts. */
      before?: number;
    }
  >();
  private number = 0;
  /** Of the buffers that hold them. */
  weightBytes = 0;
  /** How many buffers each weight is in, by its role. */
  readonly buffersOf = new Map<TensorRole, number>();
  /** Hears of prompts that are computed for their KV. */
  prefilled: EngineListener['prefilled'] = () => {};
  /** Hears of requests that were not made by `generate`. */
  tookOther: (frame: TokensFrame) => void = () => {};

  private group: EngineGroup = undefined as never;

  private constructor(public engine: Engine) {}

  static async create(options: TestEngineOptions = {}): Promise<TestEngine> {
    const dawn = options.gpu ?? (await sharedDawn());
    const gpu = options.wide ? { ...dawn, adapter: { ...dawn.adapter, software: false } } : dawn;
    const files = options.files ?? folderFiles(options.folder ?? PICO);
    const spec = await readModelSpec(files, options.pools);
    const { dtype = 'auto', quantization = 'none', maxBufferBytes } = options;
    const held = { dtype, quantization, shaders, ...(maxBufferBytes && { maxBufferBytes }) };
    const load = () => loadWeights(gpu.device, spec, files, held);
    const weights = await load();
    const hasGolden =
      options.golden === true &&
      dtype === 'auto' &&
      quantization === 'none' &&
      files.offer.files.some((f) => f.path === 'self-test.json');
    const self = new TestEngine(undefined as never);
    self.weightBytes = weights.bytes;
    for (const { role, layer } of spec.weights) self.buffersOf.set(role, weights.parts(role, layer).length);
    self.group = await createEngines({
      gpu,
      shaders: options.shaders ?? shaders,
      spec: withRopeFactors(spec, weights.ropeFactors),
      weights,
      reload: load,
      model: 'test',
      fingerprint: 'test',
      hasher: await createBlockHasher('xxh3'),
      golden: hasGolden ? Golden.parse(await readModelJson(files, 'self-test.json')) : null,
      grammars: options.grammars ?? null,
      options: { ...DEFAULTS, ...options },
      now: () => performance.now(),
      listener: () => ({
        tokens: (frames) => {
          for (const frame of frames) self.take(frame);
        },
        kvEvents: (events) => self.events.push(...events),
        prefilled: (request, progress) => self.prefilled(request, progress),
        failed: (request, error) => self.fail(request, error),
        lost: (error) => {
          for (const request of [...self.waiting.keys()]) self.fail(request, error);
        },
      }),
    });
    [self.engine] = self.group.engines;
    return self;
  }

  /** Runs one request to its end; choices in order. */
  generate(
    prompt: readonly number[],
    sampling: Partial<SamplingParams> = {},
    n = 1,
    id = `r${this.number++}`,
    loraName?: string,
    more: Partial<GenerateRequest> = {},
  ): Promise<Collected[]> {
    const request: GenerateRequest = {
      request: id,
      prompt: [...prompt],
      choices: Array.from({ length: n }, (_, choice) => ({ choice, generated: [] })),
      sampling: { ...GREEDY, ...sampling },
      ...(loraName !== undefined && { loraName }),
      ...more,
    };
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { choices: new Map(), left: n, resolve, reject });
      this.engine.add(request);
    });
  }

  /** Goes on where an earlier attempt of a choice was. */
  async resume(
    prompt: readonly number[],
    generated: readonly number[],
    sampling: Partial<SamplingParams>,
    more: Partial<GenerateRequest>,
  ): Promise<Collected> {
    const request = `r${this.number++}`;
    const collected = { tokens: [], logprobs: [], promptLogprobs: null, cachedTokens: -1, finish: '' };
    const [choice] = await new Promise<Collected[]>((resolve, reject) => {
      this.waiting.set(request, {
        choices: new Map([[0, collected]]),
        left: 1,
        resolve,
        reject,
        before: generated.length,
      });
      const choices = [{ choice: 0, generated: [...generated] }];
      this.engine.add({ request, prompt: [...prompt], choices, sampling: { ...GREEDY, ...sampling }, ...more });
    });
    return choice!;
  }

  async one(prompt: readonly number[], sampling: Partial<SamplingParams> = {}, loraName?: string): Promise<Collected> {
    return (await this.generate(prompt, sampling, 1, undefined, loraName))[0]!;
  }

  /** Tokens so far of a request that has not ended. */
  tokensOf(id: string): number {
    return [...(this.waiting.get(id)?.choices.values() ?? [])].reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  get engines(): readonly Engine[] {
    return this.group.engines;
  }

  /** The engine is gone until `wake`, which gives another one. */
  async sleep(level: SleepLevel): Promise<{ keptBytes: number; wake: () => Promise<void> }> {
    const { keptBytes, wake } = await this.group.sleep(level);
    return {
      keptBytes,
      wake: async () => {
        this.group = await wake();
        [this.engine] = this.group.engines;
      },
    };
  }

  close(): Promise<void> {
    return this.engine.close();
  }

  private take(frame: TokensFrame): void {
    const request = this.waiting.get(frame.request);
    if (!request) {
      this.tookOther(frame);
      return;
    }
    let c = request.choices.get(frame.choice);
    if (!c) {
      c = {
        tokens: [],
        logprobs: [],
        promptLogprobs: frame.promptLogprobs ?? null,
        cachedTokens: frame.cachedTokens ?? -1,
        finish: '',
      };
      request.choices.set(frame.choice, c);
    }
    if (frame.offset !== (request.before ?? 0) + c.tokens.length)
      throw new Error(`offset ${frame.offset} after ${c.tokens.length} tokens`);
    c.tokens.push(...frame.tokens);
    c.logprobs.push(...(frame.logprobs ?? []));
    if (!frame.finish) return;
    c.finish = frame.finish;
    if (frame.embedding !== undefined) c.embedding = new Float32Array(fromBase64(frame.embedding)!.buffer);
    if (--request.left > 0) return;
    this.waiting.delete(frame.request);
    request.resolve([...request.choices.entries()].sort((a, b) => a[0] - b[0]).map(([, v]) => v));
  }

  private fail(request: string, error: EngineError): void {
    this.waiting.get(request)?.reject(error);
    this.waiting.delete(request);
  }
}
