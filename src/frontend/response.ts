import type { TokenLogprob } from '../protocol/generate.ts';
import type { ChoiceDelta, Finish, OutputToken } from './choice-stream.ts';
import { ApiError } from './errors.ts';
import { cancelError } from './running.ts';
import type { StreamStyle } from './sse.ts';
import type { Usage } from './usage.ts';

/** What every chunk and answer begins with. */
export interface ResponseHead {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  readonly model: string;
}

/** A choice that is complete. */
export interface CollectedChoice {
  readonly choice: number;
  readonly text: string;
  readonly tokens: readonly OutputToken[];
  readonly finish: Finish;
  readonly promptLogprobs: readonly (TokenLogprob | null)[] | null;
}

/** How an endpoint writes what was computed. */
export interface ResponseShape {
  readonly style: StreamStyle;
  /** What a stream begins with, once the first delta is there. */
  start(usage: Usage): Iterable<object>;
  /** The chunks of a stream that a delta gives: none while nothing can be shown yet. A string is a chunk's JSON. */
  chunks(delta: ChoiceDelta): Iterable<object | string>;
  /** What a stream ends with, unless it fails. */
  end(usage: Usage): Iterable<object>;
  /** The last chunk of a stream that failed. */
  failure(error: ApiError): object;
  whole(choices: readonly CollectedChoice[], usage: Usage): object;
}

/** All deltas put together, by choice; `see` is shown each as it comes. When `signal` aborts they end early, and this rejects with the reason, `ApiError` 499 for a client that left. */
export async function collect(
  deltas: AsyncIterable<ChoiceDelta>,
  signal: AbortSignal,
  see: (delta: ChoiceDelta) => void,
): Promise<CollectedChoice[]> {
  const parts = new Map<number, ChoiceDelta[]>();
  for await (const delta of deltas) {
    see(delta);
    const known = parts.get(delta.choice);
    if (known === undefined) parts.set(delta.choice, [delta]);
    else known.push(delta);
  }
  if (signal.aborted)
    throw cancelError(signal) ?? new ApiError(499, 'invalid_request_error', 'The client closed the request.');
  return [...parts]
    .sort(([a], [b]) => a - b)
    .map(([choice, all]) => {
      const finish = all.at(-1)?.finish ?? null;
      if (finish === null) throw new Error(`choice ${choice} did not end`);
      return {
        choice,
        text: all.map((delta) => delta.text).join(''),
        tokens: all.flatMap((delta) => delta.tokens),
        finish,
        promptLogprobs: all.find((delta) => delta.promptLogprobs !== null)?.promptLogprobs ?? null,
      };
    });
}

/** vLLM's `token_ids`, where they were asked for. */
export function tokenIds(asked: boolean, tokens: readonly OutputToken[]): { token_ids?: number[] } {
  return asked ? { token_ids: tokens.map((token) => token.id) } : {};
}

/**
 * Makes the JSON of chunks that tell of one choice that goes on, and nothing but what its token says: nearly all chunks are so, and putting the text
 * together takes a third of the time of an object's. `empty`: a chunk with no choices.
 */
export class PlainChunks {
  readonly #before: string;
  readonly #after: string;

  constructor(empty: { readonly choices: readonly [] }) {
    const json = JSON.stringify(empty);
    const choices = '"choices":[';
    const at = json.lastIndexOf(choices) + choices.length;
    this.#before = json.slice(0, at);
    this.#after = json.slice(at);
  }

  /** `field`: what the endpoint calls `said`. `tokens`: those whose ids were asked for, or null. */
  of(index: number, field: 'text' | 'delta', said: string | object, tokens: readonly OutputToken[] | null): string {
    const ids = tokens === null ? '' : `,"token_ids":[${tokens.map((token) => token.id).join()}]`;
    const choice = `{"index":${index},"${field}":${JSON.stringify(said)},"logprobs":null,"finish_reason":null${ids}}`;
    return this.#before + choice + this.#after;
  }
}
