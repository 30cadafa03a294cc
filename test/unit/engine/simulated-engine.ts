import type { EngineError, EngineInfo, PrefillProgress } from '../../../src/engine/api.ts';
import { StepLoop } from '../../../src/engine/engine.ts';
import type { GrammarMatcher } from '../../../src/engine/grammar.ts';
import { BlockManager } from '../../../src/engine/kv/block-manager.ts';
import { Scheduler } from '../../../src/engine/scheduler.ts';
import type { StepPlan } from '../../../src/engine/step-plan.ts';
import { fromBase64 } from '../../../src/protocol/base64.ts';
import type { BlockHasher } from '../../../src/protocol/hashes.ts';
import { SCRIPTED_INFO } from '../../support/scripted-engine.ts';
import { EventReplay, PlanChecker } from './invariants.ts';
import { SimulatedCopies, simulatedBlockBytes } from './simulated-copies.ts';
import { HIDDEN, SimulatedGpu, VOCAB } from './simulated-gpu.ts';

export interface SimulatedEngineOptions {
  readonly hasher: BlockHasher;
  readonly totalBlocks: number;
  readonly blockSize: number;
  readonly maxModelLen?: number;
  readonly maxNumSeqs?: number;
  readonly maxNumBatchedTokens?: number;
  readonly prefixCaching?: boolean;
  readonly stepsInFlight?: number;
  readonly maxDrafts?: number;
  readonly grammars?: GrammarMatcher;
  readonly pools?: boolean;
  /** Awaited before a step is submitted, as when a shader is compiled, and before its results are there. */
  readonly pause?: () => Promise<void>;
}

/** The real loop, scheduler and block manager over a simulated GPU; every plan and event is checked. */
export class SimulatedEngine {
  readonly loop: StepLoop;
  readonly gpu: SimulatedGpu;
  readonly blocks: BlockManager;
  readonly scheduler: Scheduler;
  readonly copies: SimulatedCopies;
  readonly replay: EventReplay;
  /** Tokens of each request's choice 0; `finished` holds those that have ended. */
  readonly tokens = new Map<string, number[]>();
  readonly finished = new Set<string>();
  /** Of requests that pool. */
  readonly embeddings = new Map<string, Float32Array>();
  readonly lost: EngineError[] = [];
  readonly failed = new Map<string, EngineError>();
  preemptions = 0;
  prefilled: (request: string, progress: PrefillProgress) => void = () => {};
  /** Resolves the GPU's roundtrips; replace it to let the GPU hang. */
  roundtrip: () => Promise<void> = async () => {};

  constructor(options: SimulatedEngineOptions) {
    const { hasher, totalBlocks, blockSize, prefixCaching = true, pause = async () => {} } = options;
    const { maxModelLen = 64, maxNumSeqs = 4, maxNumBatchedTokens = 12, stepsInFlight = 3, maxDrafts = 0 } = options;
    const info: EngineInfo = {
      ...SCRIPTED_INFO,
      ...{ totalBlocks, blockSize, maxModelLen, maxNumSeqs, maxNumBatchedTokens, vocabSize: VOCAB },
      hiddenSize: HIDDEN,
      pools: options.pools ?? false,
      layerBlockBytes: simulatedBlockBytes(blockSize),
    };
    const limits = { maxNumSeqs, maxNumBatchedTokens, maxLogitRows: maxNumBatchedTokens };
    const checker = new PlanChecker({ ...limits, blockSize });
    this.gpu = new SimulatedGpu(totalBlocks, blockSize);
    this.blocks = new BlockManager(totalBlocks, blockSize, hasher, { prefixCaching });
    this.scheduler = new Scheduler({ ...limits, blockManager: this.blocks, maxModelLen, maxWaiting: 1000, maxDrafts });
    this.copies = new SimulatedCopies(this.gpu, info);
    this.copies.pause = pause;
    this.replay = new EventReplay(hasher);
    const submit = async (plan: StepPlan) => {
      checker.check(plan);
      this.preemptions += plan.preempted;
      await pause();
      const samples = Uint32Array.from(this.gpu.run(plan));
      const vectors = this.gpu.pooled;
      const pooled = (i: number) => vectors[i]!;
      const logprob = (_row: number, token: number) => ({ token, logprob: -1, rank: 1, top: [] });
      return { result: pause().then(() => ({ samples, pooled, logprob })), submits: 1, dispatches: 1, bytes: 0 };
    };
    this.loop = new StepLoop({
      info,
      scheduler: this.scheduler,
      blocks: this.blocks,
      runner: { submit, roundtrip: () => this.roundtrip(), destroy() {} },
      copies: prefixCaching ? this.copies : null,
      loras: null,
      grammars: options.grammars ?? null,
      listener: {
        tokens: (frames) => {
          for (const { request, tokens, finish, embedding } of frames) {
            if (embedding !== undefined) this.embeddings.set(request, new Float32Array(fromBase64(embedding)!.buffer));
            this.tokens.set(request, [...(this.tokens.get(request) ?? []), ...tokens]);
            if (finish) this.finished.add(request);
          }
        },
        kvEvents: (events) => this.replay.apply(events),
        prefilled: (request, progress) => this.prefilled(request, progress),
        failed: (request, error) => this.failed.set(request, error),
        lost: (error) => this.lost.push(error),
      },
      stepsInFlight,
      now: () => 0,
      release() {},
    });
  }
}
