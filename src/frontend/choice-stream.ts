import type { TokenLogprob, TokensFrame } from '../protocol/generate.ts';
import { Detokenizer } from './detokenizer.ts';
import { ApiError } from './errors.ts';
import { StopStrings } from './stop-strings.ts';
import type { ChatTokenizer } from './tokenizer.ts';

/** How a request wants its text. */
export interface OutputOptions {
  readonly stop: readonly string[];
  readonly includeStop: boolean;
  readonly skipSpecialTokens: boolean;
  /** Special tokens that are not skipped: parsers look for them. */
  readonly shownTokenIds: ReadonlySet<number>;
  readonly minTokens: number;
  /** The request's own `stop_token_ids`; ending by another id is an end of sequence. */
  readonly stopTokenIds: readonly number[];
  /** Nothing is answered but the prompt: what is generated is dropped. */
  readonly promptOnly: boolean;
}

/** Why a choice ended; `stopReason` as vLLM: the stop string or the id of `stop_token_ids`, null at an end of sequence. */
export interface Finish {
  readonly reason: 'stop' | 'length';
  readonly stopReason: string | number | null;
}

export interface OutputToken {
  readonly id: number;
  /** Characters (code points) of the choice's text that were complete before this token. */
  readonly textOffset: number;
  /** null where the request asked for no logprobs. */
  readonly logprob: TokenLogprob | null;
}

/** What one frame adds to a choice of the response. */
export interface ChoiceDelta {
  readonly choice: number;
  readonly text: string;
  readonly tokens: readonly OutputToken[];
  readonly finish: Finish | null;
  readonly promptLogprobs: readonly (TokenLogprob | null)[] | null;
  readonly cachedTokens: number | null;
}

/** One choice of a response: frames in, text out, ended by the engine or by a stop string, whichever comes first. */
export class ChoiceStream {
  readonly #options: OutputOptions;
  readonly #detokenizer: Detokenizer | null;
  readonly #stops: StopStrings;
  #tokens = 0;
  #characters = 0;
  #finish: Finish | null = null;

  /** `choice`: its number in the response. */
  constructor(
    readonly choice: number,
    tokenizer: ChatTokenizer | null,
    options: OutputOptions,
  ) {
    this.#options = options;
    this.#detokenizer =
      tokenizer === null ? null : new Detokenizer(tokenizer, options.skipSpecialTokens, options.shownTokenIds);
    this.#stops = new StopStrings(options.stop, options.includeStop);
  }

  get ended(): boolean {
    return this.#finish !== null;
  }

  /** Takes the choice's next frame. Tokens after a stop string are dropped: neither text nor usage has them. Throws when a frame is missing. */
  push(frame: TokensFrame): ChoiceDelta {
    if (frame.offset !== this.#tokens) {
      throw new Error(
        `choice ${frame.choice} of ${frame.request} continued at ${frame.offset}, not at ${this.#tokens}`,
      );
    }
    const { promptLogprobs = null, cachedTokens = null } = frame;
    const added = this.#options.promptOnly ? this.#nothing() : this.#add(frame);
    return { choice: this.choice, ...added, finish: this.#finish, promptLogprobs, cachedTokens };
  }

  #nothing(): Pick<ChoiceDelta, 'text' | 'tokens'> {
    this.#finish = { reason: 'length', stopReason: null };
    return { text: '', tokens: [] };
  }

  #add(frame: TokensFrame): Pick<ChoiceDelta, 'text' | 'tokens'> {
    const tokens: OutputToken[] = [];
    let text = '';
    for (let at = 0; at < frame.tokens.length; at++) {
      const id = frame.tokens[at] as number;
      tokens.push({ id, textOffset: this.#characters, logprob: frame.logprobs?.[at] ?? null });
      this.#tokens++;
      const isStopId = frame.stopId !== undefined && at === frame.tokens.length - 1;
      // As vLLM: the id that ends a choice is counted, but its text is not shown.
      if (!isStopId || this.#options.includeStop) text += this.#show(this.#detokenizer?.push(id) ?? '');
      if (this.#finish !== null) break;
    }
    if (this.#finish === null && frame.finish !== undefined) text += this.#end(frame);
    return { text, tokens };
  }

  #show(piece: string): string {
    this.#characters += codePoints(piece);
    const { text, stop } = this.#stops.push(piece, this.#tokens > this.#options.minTokens);
    if (stop !== null) this.#finish = { reason: 'stop', stopReason: stop };
    return text;
  }

  #end(frame: TokensFrame): string {
    let text = this.#show(this.#detokenizer?.flush() ?? '');
    if (this.#finish !== null) return text;
    text += this.#stops.flush();
    this.#finish = finishOf(frame, this.#options.stopTokenIds);
    return text;
  }
}

function finishOf(frame: TokensFrame, stopTokenIds: readonly number[]): Finish {
  if (frame.finish === 'length') return { reason: 'length', stopReason: null };
  if (frame.finish === 'stop') {
    const own = frame.stopId !== undefined && stopTokenIds.includes(frame.stopId);
    return { reason: 'stop', stopReason: own ? (frame.stopId ?? null) : null };
  }
  throw new ApiError(
    503,
    'service_unavailable',
    'The node cancelled this request before it was complete. Send it again.',
    {
      code: 'cancelled',
      retryAfter: 1,
    },
  );
}

/** Of a text without halves of characters. */
function codePoints(text: string): number {
  let count = text.length;
  for (let at = 0; at < text.length; at++) if ((text.charCodeAt(at) & 0xfc00) === 0xd800) count--;
  return count;
}
