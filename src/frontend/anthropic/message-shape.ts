import { Blocks } from '../blocks.ts';
import type { ChatReading } from '../chat-reading.ts';
import type { ChoiceDelta, Finish, OutputToken } from '../choice-stream.ts';
import type { ApiError } from '../errors.ts';
import type { ReasoningTokens } from '../reasoning-tokens.ts';
import type { CollectedChoice, ResponseHead, ResponseShape } from '../response.ts';
import { MESSAGE_EVENTS } from '../sse.ts';
import type { Usage } from '../usage.ts';
import { errorBody } from './error-body.ts';
import { MessageContent } from './message-content.ts';

export interface MessageShapeOptions {
  readonly head: ResponseHead;
  readonly reading: ChatReading;
  /** Its `x-request-id`. */
  readonly requestId: string | null;
}

/** Events and whole answers of /v1/messages. */
export class MessageShape implements ResponseShape {
  readonly style = MESSAGE_EVENTS;
  readonly #options: MessageShapeOptions;
  readonly #blocks: Blocks;
  readonly #content = new MessageContent();
  readonly #reasoning: ReasoningTokens | null;
  #finish: Finish = { reason: 'stop', stopReason: null };

  constructor(options: MessageShapeOptions) {
    this.#options = options;
    this.#blocks = new Blocks(options.reading.parser());
    this.#reasoning = options.reading.counter();
  }

  start(usage: Usage): Iterable<object> {
    const open = { content: [], stop_reason: null, stop_sequence: null };
    return [{ type: 'message_start', message: this.#message({ ...open, usage: this.#usage(usage, 0) }) }];
  }

  chunks(delta: ChoiceDelta): Iterable<object> {
    return this.#push(delta.text, delta.tokens, delta.finish);
  }

  end(usage: Usage): Iterable<object> {
    const delta = { ...this.#stop(), stop_details: null, container: null };
    return [
      { type: 'message_delta', delta, usage: this.#usage(usage, usage.completion_tokens) },
      { type: 'message_stop' },
    ];
  }

  failure(error: ApiError): object {
    return errorBody(error, this.#options.requestId);
  }

  whole(choices: readonly CollectedChoice[], usage: Usage): object {
    for (const { text, tokens, finish } of choices) for (const _ of this.#push(text, tokens, finish));
    const { blocks: content } = this.#content;
    return this.#message({ content, ...this.#stop(), usage: this.#usage(usage, usage.completion_tokens) });
  }

  #push(text: string, tokens: readonly OutputToken[], finish: Finish | null): Iterable<object> {
    this.#reasoning?.push(tokens);
    if (finish !== null) this.#finish = finish;
    const end = finish === null ? null : finish.reason === 'length' ? 'cut' : 'whole';
    return this.#content.push(this.#blocks.push(text, end));
  }

  #message(more: object): object {
    const { id, model } = this.#options.head;
    return { id, type: 'message', role: 'assistant', model, ...more, stop_details: null, container: null };
  }

  #stop(): { readonly stop_reason: string; readonly stop_sequence: string | null } {
    const { reason, stopReason } = this.#finish;
    if (reason === 'length') return { stop_reason: 'max_tokens', stop_sequence: null };
    if (this.#blocks.called) return { stop_reason: 'tool_use', stop_sequence: null };
    if (typeof stopReason === 'string') return { stop_reason: 'stop_sequence', stop_sequence: stopReason };
    return { stop_reason: 'end_turn', stop_sequence: null };
  }

  /** What was read from a prefix cache is no part of `input_tokens`. */
  #usage({ prompt_tokens, prompt_tokens_details: { cached_tokens } }: Usage, output_tokens: number): object {
    return {
      input_tokens: prompt_tokens - cached_tokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: cached_tokens,
      output_tokens,
      output_tokens_details: { thinking_tokens: this.#reasoning?.count ?? 0 },
      service_tier: 'standard',
    };
  }
}
