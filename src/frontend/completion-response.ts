import type { ChoiceDelta } from './choice-stream.ts';
import { type EchoedPrompt, withEcho } from './echo.ts';
import type { ApiError } from './errors.ts';
import { completionLogprobs, promptLogprobs, type TokenNames } from './logprobs.ts';
import { type CollectedChoice, PlainChunks, type ResponseHead, type ResponseShape, tokenIds } from './response.ts';
import { PLAIN_CHUNKS } from './sse.ts';
import type { Usage } from './usage.ts';

export interface CompletionShapeOptions {
  readonly head: ResponseHead;
  readonly names: TokenNames;
  readonly logprobs: boolean;
  readonly includeUsage: boolean;
  readonly returnTokenIds: boolean;
  /** Ids of each prompt; choice i belongs to prompt i / n. */
  readonly prompts: readonly (readonly number[])[];
  readonly n: number;
  /** The prompts as `echo` puts them before the answers; null = they stay out. */
  readonly echoes: readonly EchoedPrompt[] | null;
}

/** Chunks and whole answers of /v1/completions, with vLLM's `stop_reason`, `token_ids`, `prompt_token_ids` and `prompt_logprobs`. */
export class CompletionShape implements ResponseShape {
  readonly style = PLAIN_CHUNKS;
  readonly #options: CompletionShapeOptions;
  readonly #begun = new Set<number>();
  readonly #plain: PlainChunks;

  constructor(options: CompletionShapeOptions) {
    this.#options = options;
    this.#plain = new PlainChunks(this.#body([]));
  }

  start(): Iterable<object> {
    return [];
  }

  *chunks(delta: ChoiceDelta): Generator<object | string> {
    const { logprobs, names, returnTokenIds } = this.#options;
    const first = !this.#begun.has(delta.choice);
    const echo = this.#echoOf(delta.choice);
    const before = first ? echo : null;
    const shown = logprobs || returnTokenIds ? delta.tokens.length > 0 : false;
    if (delta.text === '' && delta.finish === null && !shown && before === null) return;
    if (!first && !logprobs && delta.finish === null) {
      yield this.#plain.of(delta.choice, 'text', delta.text, returnTokenIds ? delta.tokens : null);
      return;
    }
    this.#begun.add(delta.choice);
    const told = logprobs && (delta.tokens.length > 0 || before !== null);
    yield this.#body([
      {
        index: delta.choice,
        text: before === null ? delta.text : before.text + delta.text,
        logprobs: told ? completionLogprobs(withEcho(echo, before !== null, delta), names) : null,
        finish_reason: delta.finish?.reason ?? null,
        ...(delta.finish === null ? {} : { stop_reason: delta.finish.stopReason }),
        ...(returnTokenIds && first ? { prompt_token_ids: this.#promptOf(delta.choice) } : {}),
        ...tokenIds(returnTokenIds, delta.tokens),
      },
    ]);
  }

  end(usage: Usage): Iterable<object> {
    return this.#options.includeUsage ? [{ ...this.#body([]), usage }] : [];
  }

  failure(error: ApiError): object {
    return error.body();
  }

  whole(choices: readonly CollectedChoice[], usage: Usage): object {
    const { logprobs, names, returnTokenIds } = this.#options;
    const bodies = choices.map((choice) => ({
      index: choice.choice,
      text: (this.#echoOf(choice.choice)?.text ?? '') + choice.text,
      logprobs: logprobs ? completionLogprobs(withEcho(this.#echoOf(choice.choice), true, choice), names) : null,
      finish_reason: choice.finish.reason,
      stop_reason: choice.finish.stopReason,
      ...this.#promptLogprobsOf(choices, choice.choice),
      ...(returnTokenIds ? { prompt_token_ids: this.#promptOf(choice.choice) } : {}),
      ...tokenIds(returnTokenIds, choice.tokens),
    }));
    return { ...this.#body(bodies), usage };
  }

  #echoOf(choice: number): EchoedPrompt | null {
    const { echoes, n } = this.#options;
    return echoes?.[Math.floor(choice / n)] ?? null;
  }

  #promptOf(choice: number): readonly number[] {
    return this.#options.prompts[Math.floor(choice / this.#options.n)] ?? [];
  }

  // They come once a prompt, with whichever choice was computed first.
  #promptLogprobsOf(choices: readonly CollectedChoice[], choice: number): object {
    const first = choice - (choice % this.#options.n);
    const known = choices.slice(first, first + this.#options.n).find((each) => each.promptLogprobs !== null);
    if (known === undefined || known.promptLogprobs === null) return {};
    return { prompt_logprobs: promptLogprobs(known.promptLogprobs, this.#options.names) };
  }

  // Chunks and whole answers have the same `object`, as OpenAI's.
  #body<T extends readonly object[]>(choices: T) {
    const { head, includeUsage } = this.#options;
    return {
      id: head.id,
      object: 'text_completion',
      created: head.created,
      model: head.model,
      choices,
      ...(includeUsage ? { usage: null } : {}),
    };
  }
}
