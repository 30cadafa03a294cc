import * as z from 'zod';
import type { ApiFetch } from '../node/page/worker-fetch.ts';
import { AnswerNvext, type AnswerWay, wayOf, wayWith } from './answer-way.ts';

export interface ChatMessage {
  readonly role: 'user' | 'assistant';
  readonly content: string;
}

export interface ChatQuestion {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  readonly temperature: number | null;
  readonly maxTokens: number;
  readonly apiKey: string;
}

/** One piece of an answer; `usage` comes with the last one. */
export interface ChatDelta {
  readonly text: string;
  readonly reasoning: string;
  /** How many tokens this piece is made of. */
  readonly tokens: number;
  readonly finishReason: string | null;
  readonly usage: {
    readonly promptTokens: number;
    readonly cachedTokens: number;
    readonly completionTokens: number;
  } | null;
  /** As far as the answer has told of it; null where no nodes are. */
  readonly way: AnswerWay | null;
}

/** The API answered with an error; `status` is 200 when it came in the middle of a stream. */
export class ChatError extends Error {
  override name = 'ChatError';
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const ApiErrorBody = z.object({ error: z.object({ message: z.string() }) });

const Chunk = z.object({
  choices: z.array(
    z.object({
      delta: z.object({ content: z.string().nullish(), reasoning_content: z.string().nullish() }),
      finish_reason: z.string().nullish(),
      token_ids: z.array(z.number()).nullish(),
    }),
  ),
  usage: z
    .object({
      prompt_tokens: z.number(),
      completion_tokens: z.number(),
      prompt_tokens_details: z.object({ cached_tokens: z.number().nullish() }).nullish(),
    })
    .nullish(),
  nvext: AnswerNvext.nullish(),
});

/** Streams the answer to a chat from `/v1/chat/completions`. Throws `ChatError` with the API's own words. */
export async function* streamChat(
  fetchApi: ApiFetch,
  question: ChatQuestion,
  signal: AbortSignal,
): AsyncGenerator<ChatDelta, void, undefined> {
  const { model, messages, temperature, maxTokens, apiKey } = question;
  const response = await fetchApi('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(apiKey && { authorization: `Bearer ${apiKey}` }) },
    body: JSON.stringify({
      model,
      messages,
      max_completion_tokens: maxTokens,
      stream: true,
      stream_options: { include_usage: true },
      return_token_ids: true,
      ...(temperature !== null && { temperature }),
    }),
    signal,
  });
  if (!response.ok || !response.body) throw await errorOf(response);
  let complete = false;
  let way = wayOf(response.headers);
  for await (const data of serverSentData(response.body)) {
    if (data === '[DONE]') {
      complete = true;
      continue;
    }
    const delta = deltaOf(data, way);
    way = delta.way;
    yield delta;
  }
  if (complete) return;
  throw new ChatError(200, 'The answer broke off: the connection ended before the answer did. Ask again.');
}

async function errorOf(response: Response): Promise<ChatError> {
  const text = await response.text();
  const body = ApiErrorBody.safeParse(parsed(text));
  const message = body.success ? body.data.error.message : `The API answered with status ${response.status}.`;
  return new ChatError(response.status, message);
}

function deltaOf(data: string, way: AnswerWay | null): ChatDelta {
  const json = parsed(data);
  const failure = ApiErrorBody.safeParse(json);
  if (failure.success) throw new ChatError(200, failure.data.error.message);
  const { choices, usage, nvext } = Chunk.parse(json);
  const choice = choices[0];
  return {
    text: choice?.delta.content ?? '',
    reasoning: choice?.delta.reasoning_content ?? '',
    tokens: choice?.token_ids?.length ?? 0,
    finishReason: choice?.finish_reason ?? null,
    usage: usage
      ? {
          promptTokens: usage.prompt_tokens,
          completionTokens: usage.completion_tokens,
          cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
        }
      : null,
    way: wayWith(way, nvext ?? null),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The `data:` lines of an event stream (https://html.spec.whatwg.org/multipage/server-sent-events.html); the API sends one per event. */
async function* serverSentData(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r?\n/);
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.startsWith('data:')) yield line.slice(5).trimStart();
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
