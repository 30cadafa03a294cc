import type { ChoiceDelta } from './choice-stream.ts';
import { chatLogprobs, promptLogprobs, type TokenNames } from './logprobs.ts';
import { type CollectedChoice, type ResponseHead, type ResponseShape, tokenIds } from './response.ts';
import type { Usage } from './usage.ts';

export interface ChatShapeOptions {
  readonly head: ResponseHead;
  readonly names: TokenNames;
  readonly logprobs: boolean;
  readonly includeUsage: boolean;
  /** The prompt's ids where `return_token_ids` asks for them. */
  readonly promptIds: readonly number[] | null;
}

/** Chunks and whole answers of /v1/chat/completions, with vLLM's `stop_reason`, `token_ids` and `prompt_logprobs`. */
export class ChatShape implements ResponseShape {
  readonly #options: ChatShapeOptions;
  readonly #begun = new Set<number>();

  constructor(options: ChatShapeOptions) {
    this.#options = options;
  }

  *chunks(delta: ChoiceDelta): Generator<object> {
    const { promptIds, logprobs, names } = this.#options;
    if (!this.#begun.has(delta.choice)) {
      this.#begun.add(delta.choice);
      const first = {
        index: delta.choice,
        delta: { role: 'assistant', content: '' },
        logprobs: null,
        finish_reason: null,
      };
      const ids = promptIds !== null && this.#begun.size === 1 ? { prompt_token_ids: promptIds } : {};
      yield { ...this.#chunk([first]), ...ids };
    }
    const shown = logprobs || promptIds !== null ? delta.tokens.length > 0 : false;
    if (delta.text === '' && delta.finish === null && !shown) return;
    yield this.#chunk([
      {
        index: delta.choice,
        delta: delta.text === '' ? {} : { content: delta.text },
        logprobs: logprobs && delta.tokens.length > 0 ? chatLogprobs(delta.tokens, names) : null,
        finish_reason: delta.finish?.reason ?? null,
        ...(delta.finish === null ? {} : { stop_reason: delta.finish.stopReason }),
        ...tokenIds(promptIds !== null, delta.tokens),
      },
    ]);
  }

  usageChunk(usage: Usage): object {
    return { ...this.#chunk([]), usage };
  }

  whole(choices: readonly CollectedChoice[], usage: Usage): object {
    const { head, names, logprobs, promptIds } = this.#options;
    const prompt = choices.find((choice) => choice.promptLogprobs !== null)?.promptLogprobs ?? null;
    return {
      id: head.id,
      object: 'chat.completion',
      created: head.created,
      model: head.model,
      choices: choices.map((choice) => ({
        index: choice.choice,
        message: { role: 'assistant', content: choice.text, refusal: null },
        logprobs: logprobs ? chatLogprobs(choice.tokens, names) : null,
        finish_reason: choice.finish.reason,
        stop_reason: choice.finish.stopReason,
        ...tokenIds(promptIds !== null, choice.tokens),
      })),
      usage,
      ...(prompt === null ? {} : { prompt_logprobs: promptLogprobs(prompt, names) }),
      ...(promptIds === null ? {} : { prompt_token_ids: promptIds }),
    };
  }

  #chunk(choices: readonly object[]): object {
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
