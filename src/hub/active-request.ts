import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import { FrameQueue } from './frame-queue.ts';
import type { NodeSocket } from './node-socket.ts';
import { type AttemptFrame, TokenLog } from './token-log.ts';

/** What a frame did to a request. */
export type FrameOutcome =
  | { readonly kind: 'taken' | 'finished' }
  | { readonly kind: 'broken'; readonly reason: string };

/** A request that runs on a node: its token logs, and the queue that its reader empties. */
export class ActiveRequest {
  readonly queue = new FrameQueue<TokensFrame>();
  readonly attempt = 0;
  /** Whether any token came. */
  begun = false;
  stopIdleTimer: () => void = () => {};
  readonly #logs: ReadonlyMap<number, TokenLog>;
  /** Choices without their end. */
  #unfinished: number;

  constructor(
    readonly request: GenerateRequest,
    readonly socket: NodeSocket,
    vocabSize: number,
  ) {
    const { sampling, prompt, choices } = request;
    const rules = {
      maxTokens: sampling.maxTokens,
      vocabSize,
      logprobs: sampling.logprobs !== null,
      promptLogprobs: sampling.promptLogprobs === null ? null : prompt.length,
    };
    this.#logs = new Map(choices.map(({ choice }) => [choice, new TokenLog(rules)]));
    this.#unfinished = this.#logs.size;
  }

  take(frame: AttemptFrame): FrameOutcome {
    const log = this.#logs.get(frame.choice);
    if (log === undefined) return { kind: 'broken', reason: `choice ${frame.choice}, which the request does not have` };
    const appended = log.append(frame, this.attempt);
    if (appended.kind === 'broken') return appended;
    if (appended.kind === 'accepted') {
      this.begun = true;
      this.queue.push(appended.frame);
      if (log.finished) this.#unfinished -= 1;
    }
    return { kind: this.#unfinished === 0 ? 'finished' : 'taken' };
  }
}
