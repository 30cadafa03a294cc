import { Blocks } from '../blocks.ts';
import type { ChatReading } from '../chat-reading.ts';
import type { ChoiceDelta, Finish, OutputToken } from '../choice-stream.ts';
import type { ApiError } from '../errors.ts';
import { chatLogprobs, type TokenNames } from '../logprobs.ts';
import type { ReasoningTokens } from '../reasoning-tokens.ts';
import type { CollectedChoice, ResponseShape } from '../response.ts';
import { NAMED_EVENTS } from '../sse.ts';
import type { Usage } from '../usage.ts';
import { type OutputItem, type ResponseEvent, ResponseOutput } from './output.ts';

/** A response object, ended: `completed` or `incomplete`. */
export interface EndedResponse {
  readonly id: string;
  readonly status: 'completed' | 'incomplete';
  readonly output: readonly OutputItem[];
}

export interface ResponsesShapeOptions {
  /** `resp_` and what names its items too. */
  readonly id: string;
  /** What the response object tells of the request. */
  readonly facts: object;
  readonly reading: ChatReading;
  /** null = no logprobs. */
  readonly names: TokenNames | null;
  /** Milliseconds since the epoch. */
  now(): number;
  /** Told once of a response that ended. */
  ended(response: EndedResponse): void;
}

/** Events and whole answers of /v1/responses. */
export class ResponsesShape implements ResponseShape {
  readonly style = NAMED_EVENTS;
  readonly #options: ResponsesShapeOptions;
  readonly #blocks: Blocks;
  readonly #output: ResponseOutput;
  readonly #reasoning: ReasoningTokens | null;
  #finish: Finish['reason'] = 'stop';
  #events = 0;

  constructor(options: ResponsesShapeOptions) {
    this.#options = options;
    this.#blocks = new Blocks(options.reading.parser());
    this.#output = new ResponseOutput(options.id.slice(options.id.indexOf('_') + 1));
    this.#reasoning = options.reading.counter();
  }

  start(): Iterable<object> {
    const response = this.#response({ status: 'in_progress' });
    return [
      this.#numbered({ type: 'response.created', response }),
      this.#numbered({ type: 'response.in_progress', response }),
    ];
  }

  *chunks(delta: ChoiceDelta): Generator<object> {
    for (const event of this.#push(delta.text, delta.tokens, delta.finish)) yield this.#numbered(event);
  }

  end(usage: Usage): Iterable<object> {
    const response = this.#ended(usage);
    return [this.#numbered({ type: `response.${response.status}`, response })];
  }

  failure(error: ApiError): object {
    const { message, code, param } = error;
    // The fields are those of OpenAI's reference; the official client throws what it finds in `error`.
    if (this.#events === 0) return this.#numbered({ type: 'error', code, message, param, ...error.body() });
    const told = { code: errorCode(error), message };
    const response = this.#response({ status: 'failed', output: this.#output.items, error: told });
    return this.#numbered({ type: 'response.failed', response });
  }

  whole(choices: readonly CollectedChoice[], usage: Usage): object {
    for (const { text, tokens, finish } of choices) for (const _ of this.#push(text, tokens, finish));
    return this.#ended(usage);
  }

  #push(text: string, tokens: readonly OutputToken[], finish: Finish | null): Iterable<ResponseEvent> {
    const { names } = this.#options;
    this.#reasoning?.push(tokens);
    if (finish !== null) this.#finish = finish.reason;
    const end = finish === null ? null : finish.reason === 'length' ? 'cut' : 'whole';
    return this.#output.push(this.#blocks.push(text, end), names === null ? [] : chatLogprobs(tokens, names).content);
  }

  #ended(usage: Usage): EndedResponse {
    const cut = this.#finish === 'length';
    const response = this.#response({
      status: cut ? 'incomplete' : 'completed',
      completed_at: cut ? null : Math.floor(this.#options.now() / 1000),
      incomplete_details: cut ? { reason: 'max_output_tokens' } : null,
      output: this.#output.items,
      usage: usageOf(usage, this.#reasoning?.count ?? 0),
    } as const);
    this.#options.ended(response);
    return response;
  }

  #response<T extends object>(more: T) {
    const { id, facts } = this.#options;
    const open = { error: null, incomplete_details: null, completed_at: null, output: [] as const, usage: null };
    return { id, object: 'response', ...facts, ...open, ...more };
  }

  #numbered(event: ResponseEvent): object {
    const { type, ...rest } = event;
    return { type, sequence_number: this.#events++, ...rest };
  }
}

function usageOf(usage: Usage, reasoning: number): object {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: usage.prompt_tokens_details.cached_tokens },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: reasoning },
    total_tokens: usage.total_tokens,
  };
}

/** The few codes that a response object may have. */
function errorCode({ status }: ApiError): string {
  if (status === 400) return 'invalid_prompt';
  return status === 429 ? 'rate_limit_exceeded' : 'server_error';
}
