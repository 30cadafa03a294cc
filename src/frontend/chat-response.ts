import type { ChatReading } from './chat-reading.ts';
import { ChoiceMessage, wholeMessage } from './choice-message.ts';
import type { ChoiceDelta, OutputToken } from './choice-stream.ts';
import type { ApiError } from './errors.ts';
import { chatLogprobs, promptLogprobs, type TokenNames } from './logprobs.ts';
import type { ReasoningTokens } from './reasoning-tokens.ts';
import { type CollectedChoice, PlainChunks, type ResponseHead, type ResponseShape, tokenIds } from './response.ts';
import { PLAIN_CHUNKS } from './sse.ts';
import type { Usage } from './usage.ts';

export interface ChatShapeOptions {
  readonly head: ResponseHead;
  readonly reading: ChatReading;
  readonly names: TokenNames;
  readonly logprobs: boolean;
  readonly includeUsage: boolean;
  /** The prompt's ids where `return_token_ids` asks for them. */
  readonly promptIds: readonly number[] | null;
}

/** Chunks and whole answers of /v1/chat/completions, with vLLM's `stop_reason`, `token_ids` and `prompt_logprobs`. */
export class ChatShape implements ResponseShape {
  readonly style = PLAIN_CHUNKS;
  readonly #options: ChatShapeOptions;
  readonly #streamed = new Map<number, ChoiceMessage>();
  readonly #reasoning = new Map<number, ReasoningTokens | null>();
  readonly #plain: PlainChunks;

  constructor(options: ChatShapeOptions) {
    this.#options = options;
    this.#plain = new PlainChunks(this.#chunk([]));
  }

  start(): Iterable<object> {
    return [];
  }

  *chunks(delta: ChoiceDelta): Generator<object | string> {
    const { promptIds, logprobs, names, reading } = this.#options;
    let message = this.#streamed.get(delta.choice);
    if (message === undefined) {
      message = new ChoiceMessage(reading.parser());
      this.#streamed.set(delta.choice, message);
      const first = {
        index: delta.choice,
        delta: { role: 'assistant', content: '' },
        logprobs: null,
        finish_reason: null,
      };
      const ids = promptIds !== null && this.#streamed.size === 1 ? { prompt_token_ids: promptIds } : {};
      yield { ...this.#chunk([first]), ...ids };
    }
    this.#count(delta.choice, delta.tokens);
    const added = message.push(delta.text, delta.finish !== null);
    const shown = logprobs || promptIds !== null ? delta.tokens.length > 0 : false;
    if (Object.keys(added).length === 0 && delta.finish === null && !shown) return;
    if (!logprobs && delta.finish === null) {
      yield this.#plain.of(delta.choice, 'delta', added, promptIds === null ? null : delta.tokens);
      return;
    }
    yield this.#chunk([
      {
        index: delta.choice,
        delta: added,
        logprobs: logprobs && delta.tokens.length > 0 ? chatLogprobs(delta.tokens, names) : null,
        finish_reason: delta.finish === null ? null : message.finishReason(delta.finish),
        ...(delta.finish === null ? {} : { stop_reason: delta.finish.stopReason }),
        ...tokenIds(promptIds !== null, delta.tokens),
      },
    ]);
  }

  end(usage: Usage): Iterable<object> {
    return this.#options.includeUsage ? [{ ...this.#chunk([]), usage: this.#usage(usage) }] : [];
  }

  failure(error: ApiError): object {
    return error.body();
  }

  whole(choices: readonly CollectedChoice[], usage: Usage): object {
    const { head, names, logprobs, promptIds, reading } = this.#options;
    const prompt = choices.find((choice) => choice.promptLogprobs !== null)?.promptLogprobs ?? null;
    return {
      id: head.id,
      object: 'chat.completion',
      created: head.created,
      model: head.model,
      choices: choices.map((choice) => {
        this.#count(choice.choice, choice.tokens);
        const message = new ChoiceMessage(reading.parser());
        return {
          index: choice.choice,
          message: wholeMessage(message.push(choice.text, true)),
          logprobs: logprobs ? chatLogprobs(choice.tokens, names) : null,
          finish_reason: message.finishReason(choice.finish),
          stop_reason: choice.finish.stopReason,
          ...tokenIds(promptIds !== null, choice.tokens),
        };
      }),
      usage: this.#usage(usage),
      ...(prompt === null ? {} : { prompt_logprobs: promptLogprobs(prompt, names) }),
      ...(promptIds === null ? {} : { prompt_token_ids: promptIds }),
    };
  }

  #count(choice: number, tokens: readonly OutputToken[]): void {
    let counter = this.#reasoning.get(choice);
    if (counter === undefined) {
      counter = this.#options.reading.counter();
      this.#reasoning.set(choice, counter);
    }
    counter?.push(tokens);
  }

  #usage(usage: Usage): object {
    const counters = [...this.#reasoning.values()].filter((counter) => counter !== null);
    if (counters.length === 0) return usage;
    const reasoning = counters.reduce((sum, { count }) => sum + count, 0);
    return { ...usage, completion_tokens_details: { reasoning_tokens: reasoning } };
  }

  #chunk<T extends readonly object[]>(choices: T) {
    const { head, includeUsage } = this.#options;
    return {
      id: head.id,
      object: 'chat.completion.chunk',
      created: head.created,
      model: head.model,
      choices,
      ...(includeUsage ? { usage: null } : {}),
    };
  }
}
