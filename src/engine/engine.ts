import type { GenerateRequest, TokenLogprob, TokensFrame } from '../protocol/generate.ts';
import type { KvSnapshot } from '../protocol/kv-events.ts';
import type { EngineLoad } from '../protocol/messages.ts';
import type { KvSection } from '../protocol/transfer.ts';
import {
  type Engine,
  EngineError,
  type EngineInfo,
  type EngineListener,
  type KvReservation,
  type StepRecord,
} from './api.ts';
import { checkRequest } from './check-request.ts';
import { Constraints } from './constraints.ts';
import type { GrammarMatcher } from './grammar.ts';
import { Heartbeats } from './heartbeats.ts';
import type { BlockManager } from './kv/block-manager.ts';
import type { KvCopies } from './kv/copies.ts';
import { Handover } from './kv/handover.ts';
import type { LoraAdapter, LoraAdapters } from './lora/adapters.ts';
import { embeddingText, noNumbers } from './pooling.ts';
import { embedsOf, requireIds } from './prompt-embeds.ts';
import type { StepResult, SubmittedStep } from './runner.ts';
import type { Scheduler, StepPlan } from './scheduler.ts';
import { PROMPT_ONLY, Sequence } from './sequence.ts';
import { StepCounters } from './step-counters.ts';
import { lorasOf, recordOf } from './step-record.ts';
import { LOGIT_LOGPROBS } from './tables.ts';

/** What the loop needs of the GPU; `Runner` is the real one. */
export interface StepRunner {
  submit(plan: StepPlan): Promise<SubmittedStep>;
  /** Resolves when the GPU has done work submitted now. */
  roundtrip(): Promise<void>;
  destroy(): void;
}

export interface EngineParts {
  readonly info: EngineInfo;
  readonly scheduler: Scheduler;
  readonly blocks: BlockManager;
  readonly runner: StepRunner;
  /** null without prefix caching: what comes from elsewhere enters the engine through the cache. */
  readonly copies: KvCopies | null;
  /** null where there may be none. */
  readonly loras: LoraAdapters | null;
  /** null where no grammars are matched. */
  readonly grammars: GrammarMatcher | null;
  readonly listener: EngineListener;
  /** Steps submitted before the first of them is read back; fixed, so that decisions are free of timing. */
  readonly stepsInFlight: number;
  readonly now: () => number;
  /** Frees weights, pool and device. */
  readonly release: () => void;
}

interface InFlight {
  readonly plan: StepPlan;
  readonly submitted: SubmittedStep;
  done: boolean;
}

/**
 * The loop of a node: schedule, submit, read back, tell. Before step s is scheduled the results of step s - stepsInFlight
 * are consumed, never earlier or later; a step with nothing to do counts, so that the rule holds at the end of a burst too.
 */
export class StepLoop implements Engine {
  readonly info: EngineInfo;
  readonly loras: LoraAdapters | null;
  private readonly counters: StepCounters;
  private readonly promptLogprobs = new Map<Sequence, (TokenLogprob | null)[]>();
  private readonly started = new Set<Sequence>();
  private readonly constraints: Constraints;
  private readonly heartbeats: Heartbeats;
  private readonly handover: Handover | null;
  private readonly flight: (InFlight | null)[] = [];
  /** Cleared in the very turn that finds nothing to do, so that a request of the next turn starts the loop anew. */
  private active = false;
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(private readonly parts: EngineParts) {
    this.info = parts.info;
    this.loras = parts.loras;
    this.loras?.onFreed((name) => {
      parts.blocks.forgetLora(name);
      this.tellKvEvents();
    });
    this.counters = new StepCounters(parts.now);
    this.constraints = new Constraints(
      parts.grammars,
      () => this.wake(),
      (request, error) => {
        this.cancel(request);
        parts.listener.failed(request, error);
      },
    );
    this.heartbeats = new Heartbeats(() => parts.runner.roundtrip());
    const { info, blocks, copies, scheduler } = parts;
    this.handover = copies
      ? new Handover({
          info,
          blocks,
          copies,
          held: (request) => scheduler.held(request),
          loras: this.loras,
          changed: () => {
            this.tellKvEvents();
            this.wake();
          },
        })
      : null;
  }

  add(request: GenerateRequest): void {
    this.check(request);
    const embeds = embedsOf(request, this.info.hiddenSize);
    const sequences = request.choices.map(
      ({ choice, generated }) =>
        new Sequence(request, choice, generated, this.info.maxModelLen, false, this.takeLora(request), embeds),
    );
    this.schedule(sequences);
    this.constraints.begin(sequences, request);
  }

  cancel(request: string): void {
    for (const sequence of this.parts.scheduler.cancel(request)) this.forget(sequence);
    this.tellKvEvents();
    this.wake();
  }

  prefill(request: GenerateRequest): void {
    this.check(request);
    this.requireHandover();
    requireIds(request);
    const { grammar: _, ...alone } = { ...request, sampling: PROMPT_ONLY };
    this.schedule([new Sequence(alone, 0, [], this.info.maxModelLen, true, this.takeLora(request))]);
  }

  async export(request: string, section: KvSection): Promise<ArrayBuffer> {
    this.requireOpen();
    return this.requireHandover().export(request, section);
  }

  reserve(request: GenerateRequest): KvReservation | 'cached' | 'no_room' {
    this.check(request);
    requireIds(request);
    return this.requireHandover().reserve(request);
  }

  resetPrefixCache(): void {
    this.parts.blocks.clear();
    this.tellKvEvents();
  }

  heartbeat(): Promise<void> {
    const beat = this.heartbeats.next();
    this.wake();
    return beat;
  }

  load(): EngineLoad {
    const { scheduler, blocks } = this.parts;
    return {
      running: scheduler.numRunning,
      waiting: scheduler.numWaiting,
      usedBlocks: blocks.usedBlocks,
      totalBlocks: blocks.totalBlocks,
      tokensPerSecond: this.counters.tokensPerSecond(),
      counters: { ...this.counters.totals },
    };
  }

  steps(): StepRecord[] {
    return this.counters.records();
  }

  snapshot(): KvSnapshot {
    return this.parts.blocks.snapshot();
  }

  blockMap(): Uint8Array {
    return this.parts.blocks.blockMap();
  }

  async close(): Promise<void> {
    this.end(new EngineError('internal', 'The engine is closed.'));
    this.parts.runner.destroy();
    // First: without its device, no step of a GPU that hangs is waited for.
    this.parts.release();
    await this.running;
  }

  /** Ends the loop but not the device, which others may need. Resolves when the GPU is done with its steps; they come to nothing. */
  async stop(): Promise<void> {
    this.end(new EngineError('internal', 'The engine sleeps.'));
    await this.running;
    await Promise.allSettled(this.flight.map((entry) => entry?.submitted.result));
    this.parts.runner.destroy();
  }

  /** The GPU is gone or cannot be trusted: nothing more is computed. Told to the listener once, and not after `close`. */
  lose(error: EngineError): void {
    if (this.closed) return;
    this.end(error);
    this.parts.listener.lost(error);
  }

  private end(error: EngineError): void {
    this.closed = true;
    this.constraints.end();
    this.heartbeats.end(error);
    this.handover?.close();
  }

  private check(request: GenerateRequest): void {
    this.requireOpen();
    checkRequest(request, this.info, this.loras?.names ?? []);
    this.constraints.check(request.grammar);
  }

  private schedule(sequences: readonly Sequence[]): void {
    try {
      this.parts.scheduler.add(sequences);
    } catch (error) {
      for (const sequence of sequences) this.releaseLora(sequence);
      throw error;
    }
    this.wake();
  }

  /** For one sequence of a request that was checked, until `releaseLora`. */
  private takeLora({ loraName }: GenerateRequest): LoraAdapter | null {
    return loraName === undefined || this.loras === null ? null : this.loras.take(loraName);
  }

  private releaseLora({ lora }: Sequence): void {
    if (lora) this.loras?.release(lora);
  }

  private requireOpen(): void {
    if (this.closed) throw new EngineError('internal', 'The engine is closed.');
  }

  private requireHandover(): Handover {
    if (this.handover) return this.handover;
    throw new EngineError(
      'invalid_request',
      'This engine has no prefix cache, and KV goes to and from other nodes through it. Enable prefix caching, or serve without --disaggregation-mode.',
    );
  }

  /** Starts the loop unless it runs. */
  private wake(): void {
    if (this.active || this.closed) return;
    this.active = true;
    this.running = this.run();
  }

  private async run(): Promise<void> {
    try {
      // A turn of the event loop first, so that requests that arrive together are scheduled together.
      await Promise.resolve();
      while (!this.closed && (await this.step()));
    } catch (cause) {
      this.lose(
        cause instanceof EngineError
          ? cause
          : new EngineError(
              'device_lost',
              `The GPU stopped answering: ${cause instanceof Error ? cause.message : String(cause)}`,
              { cause },
            ),
      );
    }
  }

  /** One turn of the loop; false when nothing is left to do. */
  private async step(): Promise<boolean> {
    if (this.flight.length === this.parts.stepsInFlight) {
      const oldest = this.flight.shift();
      if (oldest) this.consume(oldest.plan, await oldest.submitted.result);
    }
    const started = this.parts.now();
    const plan = this.parts.scheduler.schedule();
    this.heartbeats.beat();
    if (plan) {
      const inFlight = this.flight.filter((f) => f && !f.done).length;
      for (const { sequence } of plan.admitted) if (sequence.computed > 0) this.tellPrefilled(sequence);
      this.handover?.submitting();
      const entry: InFlight = { plan, submitted: await this.submit(plan), done: false };
      this.handover?.submitted();
      void entry.submitted.result.then(
        () => {
          entry.done = true;
        },
        () => {}, // told by the await in a later turn
      );
      this.flight.push(entry);
      this.counters.step(recordOf(plan, inFlight, entry.submitted, this.parts.now() - started));
    } else if (this.flight.some((f) => f !== null)) {
      this.flight.push(null);
    } else {
      this.flight.length = 0;
      this.active = false;
      return false;
    }
    return true;
  }

  /** While shaders are compiled its sequences may be cancelled; their adapters stay until the step is on its way. */
  private async submit(plan: StepPlan): Promise<SubmittedStep> {
    const loras = lorasOf(plan);
    for (const lora of loras) this.loras?.hold(lora);
    try {
      return await this.parts.runner.submit(plan);
    } finally {
      for (const lora of loras) this.loras?.release(lora);
    }
  }

  private consume(plan: StepPlan, result: StepResult): void {
    for (const [i, { kind, sequence, position }] of plan.logitRows.entries()) {
      if (kind !== LOGIT_LOGPROBS) continue;
      const target = position + 1;
      const known =
        this.promptLogprobs.get(sequence) ?? new Array<TokenLogprob | null>(sequence.promptLength).fill(null);
      known[target] = result.logprob(i, sequence.tokens[target]!, sequence.sampling.promptLogprobs ?? 0);
      this.promptLogprobs.set(sequence, known);
    }
    const frames: TokensFrame[] = [];
    for (const update of this.parts.scheduler.consume(plan, result.samples)) {
      const { sequence, sample, tokens, drafted, finish, stopId } = update;
      if (sequence.held) {
        if (finish) this.releaseLora(sequence);
        continue;
      }
      const embedding = embeddingText(update, result);
      if (embedding === null) {
        this.forget(sequence);
        this.parts.listener.failed(sequence.request, noNumbers());
        continue;
      }
      this.counters.sampled(tokens.length, drafted);
      const first = !this.started.has(sequence);
      const { logprobs } = sequence.sampling;
      const prompt = this.promptLogprobs.get(sequence);
      frames.push({
        request: sequence.request,
        choice: sequence.choice,
        offset: sequence.tokens.length - tokens.length - sequence.promptLength,
        tokens: [...tokens],
        ...(logprobs !== null && {
          logprobs: tokens.map((token, i) => result.logprob(sample + i, token, logprobs)),
        }),
        ...(first && { cachedTokens: sequence.cachedTokens ?? 0 }),
        ...(first && sequence.scorePrompt && { promptLogprobs: prompt ?? [null] }),
        ...(embedding !== undefined && { embedding }),
        ...(finish && { finish }),
        ...(stopId !== undefined && { stopId }),
      });
      if (first) {
        this.started.add(sequence);
        this.counters.cached(sequence.cachedTokens ?? 0);
      }
      if (finish) this.forget(sequence);
      else this.constraints.accept(sequence, tokens);
    }
    if (frames.length > 0) this.parts.listener.tokens(frames);
    this.tellKvEvents();
    for (const { sequence } of plan.rows) this.tellPrefilled(sequence);
  }

  private tellPrefilled(sequence: Sequence): void {
    const { request, computed, status } = sequence;
    if (this.parts.scheduler.held(request) !== sequence) return;
    const cachedTokens = sequence.cachedTokens ?? 0;
    const done = status === 'finished';
    if (done) this.counters.cached(cachedTokens);
    this.parts.listener.prefilled(request, {
      blocks: Math.floor(computed / this.info.blockSize),
      done,
      computedTokens: computed - cachedTokens,
      cachedTokens,
    });
  }

  private tellKvEvents(): void {
    const events = this.parts.blocks.takeEvents();
    if (events.length > 0) this.parts.listener.kvEvents(events);
  }

  private forget(sequence: Sequence): void {
    this.promptLogprobs.delete(sequence);
    this.started.delete(sequence);
    this.constraints.forget(sequence);
    this.releaseLora(sequence);
  }
}
