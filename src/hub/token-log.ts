import type { FinishReason, TokensFrame } from '../protocol/generate.ts';
import { readEmbedding } from '../protocol/pooling.ts';
import type { SamplingParams } from '../protocol/sampling.ts';

/** A frame as a node sends it: with the attempt it belongs to. */
export type AttemptFrame = TokensFrame & { attempt: number };

/** What the request allows its frames to hold. */
export interface FrameRules {
  readonly maxTokens: number;
  readonly vocabSize: number;
  /** Whether each token comes with its logprob. */
  readonly logprobs: boolean;
  /** Length of the prompt where the first frame brings its logprobs, else null. */
  readonly promptLogprobs: number | null;
  /** Values of the embedding that ends it, where the request pools: no token comes then. */
  readonly embedding: number | null;
}

/** What a log did with a frame (docs/protocol.md, T rules). */
export type Appended =
  /** New for the client; the frame begins at the log's old end and may be shorter than what was sent. */
  | { readonly kind: 'accepted'; readonly frame: TokensFrame }
  /** Nothing new: an old attempt, a duplicate, or something after the end. */
  | { readonly kind: 'ignored' }
  /** The node broke a rule; nothing of the frame was taken. */
  | { readonly kind: 'broken'; readonly reason: string };

const IGNORED: Appended = { kind: 'ignored' };

/**
 * The tokens accepted for one choice of a request: the only source of what a client sees, so that it sees each token once.
 * Takes frames of the current attempt at the next offset; cuts off what is known already; a hole is the node's fault.
 */
export class TokenLog {
  readonly tokens: number[] = [];
  finished = false;
  #begun = false;

  constructor(private readonly rules: FrameRules) {}

  /** Whether the client has a frame of the choice: its prompt's logprobs and cached tokens were told. */
  get begun(): boolean {
    return this.#begun;
  }

  /** Ends a log whose tokens are complete though no frame said so, as an engine would (rule T4); null where tokens are missing. */
  end({ minTokens, maxTokens, stopIds }: SamplingParams): { finish: FinishReason; stopId?: number } | null {
    const last = this.tokens.at(-1);
    if (this.finished || last === undefined) return null;
    const stopped = this.tokens.length >= minTokens && stopIds.includes(last);
    if (!stopped && this.tokens.length < maxTokens) return null;
    this.finished = true;
    return stopped ? { finish: 'stop', stopId: last } : { finish: 'length' };
  }

  append(frame: AttemptFrame, currentAttempt: number): Appended {
    if (frame.attempt !== currentAttempt || this.finished) return IGNORED;
    const reason = this.#fault(frame);
    if (reason !== null) return { kind: 'broken', reason };
    const known = this.tokens.length - frame.offset;
    const nothingNew = known >= frame.tokens.length && frame.finish === undefined && this.#begun;
    return nothingNew ? IGNORED : { kind: 'accepted', frame: this.#take(frame, known) };
  }

  #take(frame: AttemptFrame, known: number): TokensFrame {
    const { request, choice, offset, finish, stopId, cachedTokens, embedding } = frame;
    const tokens = known === 0 ? frame.tokens : frame.tokens.slice(known);
    const first = !this.#begun;
    for (const token of tokens) this.tokens.push(token);
    this.#begun = true;
    this.finished = finish !== undefined;
    // Nearly all frames are so.
    if (!first && finish === undefined && stopId === undefined && !this.rules.logprobs)
      return { request, choice, offset: offset + known, tokens };
    return {
      request,
      choice,
      offset: offset + known,
      tokens,
      ...(this.rules.logprobs ? { logprobs: (frame.logprobs ?? []).slice(known) } : {}),
      ...(first && this.rules.promptLogprobs !== null ? { promptLogprobs: frame.promptLogprobs ?? [] } : {}),
      ...(first && cachedTokens !== undefined ? { cachedTokens } : {}),
      ...(embedding === undefined ? {} : { embedding }),
      ...(finish === undefined ? {} : { finish }),
      ...(stopId === undefined ? {} : { stopId }),
    };
  }

  #fault(frame: AttemptFrame): string | null {
    const { maxTokens, vocabSize, logprobs, promptLogprobs } = this.rules;
    const wrong = this.#embeddingFault(frame);
    if (wrong !== null) return wrong;
    const next = this.tokens.length;
    const end = frame.offset + frame.tokens.length;
    if (frame.offset > next) return `a hole: tokens from offset ${frame.offset}, but only ${next} came before`;
    if (end > maxTokens) return `${end} tokens, but at most ${maxTokens} were asked for`;
    if (frame.finish === 'cancelled') return 'finish "cancelled", but nobody cancelled';
    if (frame.finish !== undefined && end < next) return `the end at ${end}, but ${next} tokens came already`;
    const strange = frame.tokens.find((token) => token >= vocabSize);
    if (strange !== undefined) return `token id ${strange}, but the vocabulary ends before ${vocabSize}`;
    if (logprobs && frame.logprobs?.length !== frame.tokens.length) {
      return `${frame.logprobs?.length ?? 0} logprobs for ${frame.tokens.length} tokens`;
    }
    if (!this.#begun && promptLogprobs !== null && frame.promptLogprobs?.length !== promptLogprobs) {
      return `${frame.promptLogprobs?.length ?? 0} prompt logprobs for ${promptLogprobs} prompt tokens`;
    }
    return null;
  }

  #embeddingFault({ embedding, tokens, finish }: AttemptFrame): string | null {
    const { embedding: values } = this.rules;
    if (values === null) return embedding === undefined ? null : 'an embedding, and none was asked for';
    if (tokens.length > 0) return 'tokens, but an embedding was asked for';
    if ((embedding === undefined) !== (finish === undefined)) return 'an end without an embedding, or one before it';
    if (embedding === undefined || readEmbedding(embedding, values) !== null) return null;
    return `an embedding that is not base64 of ${values} finite f32`;
  }
}
