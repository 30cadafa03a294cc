import type { TokenLogprob } from '../protocol/generate.ts';
import type { OutputToken } from './choice-stream.ts';
import type { ChatTokenizer } from './tokenizer.ts';

/** How tokens are named in logprobs: by their text, or as `token_id:N` (vLLM's `return_tokens_as_token_ids`, and without a tokenizer). */
export interface TokenNames {
  name(id: number): string;
  /** The token's own bytes, also where they are half a character; null without a tokenizer. */
  bytes(id: number): number[] | null;
}

export function tokenNames(tokenizer: ChatTokenizer | null, asTokenIds: boolean): TokenNames {
  const lossy = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    name: (id) => (tokenizer === null || asTokenIds ? `token_id:${id}` : lossy.decode(tokenizer.piece(id).bytes)),
    bytes: (id) => (tokenizer === null ? null : [...tokenizer.piece(id).bytes]),
  };
}

/** JSON has no -Infinity; vLLM's floor for tokens that cannot be. */
export const finite = (logprob: number) => Math.max(logprob, -9999);

/** `logprobs.content` of /v1/chat/completions. */
export function chatLogprobs(tokens: readonly OutputToken[], names: TokenNames) {
  const entry = (id: number, logprob: number) => ({
    token: names.name(id),
    logprob: finite(logprob),
    bytes: names.bytes(id),
  });
  const content = withLogprobs(tokens).map(({ logprob }) => ({
    ...entry(logprob.token, logprob.logprob),
    top_logprobs: logprob.top.map(([id, value]) => entry(id, value)),
  }));
  return { content, refusal: null };
}

/** `logprobs` of /v1/completions: `top_logprobs` has the sampled token too, so up to one more than asked for. The first token of an echoed prompt has null. */
export function completionLogprobs(tokens: readonly OutputToken[], names: TokenNames) {
  // Nothing comes before a prompt's first token, so it has no logprob.
  const [first] = tokens;
  const known = first?.logprob === null ? [first, ...withLogprobs(tokens.slice(1))] : withLogprobs(tokens);
  return {
    text_offset: tokens.map((token) => token.textOffset),
    token_logprobs: known.map(({ logprob }) => logprob && finite(logprob.logprob)),
    tokens: tokens.map(({ id }) => names.name(id)),
    top_logprobs: known.map(
      ({ logprob }) =>
        logprob && Object.fromEntries(sampledAndTop(logprob).map(([id, value]) => [names.name(id), finite(value)])),
    ),
  };
}

/** vLLM's `prompt_logprobs`: for each token of the prompt a map from id to logprob, rank and text; null for the first. */
export function promptLogprobs(entries: readonly (TokenLogprob | null)[], names: TokenNames) {
  return entries.map((entry) => {
    if (entry === null) return null;
    const named = (id: number, logprob: number, rank: number) => [
      String(id),
      { logprob: finite(logprob), rank, decoded_token: names.name(id) },
    ];
    return Object.fromEntries([
      named(entry.token, entry.logprob, entry.rank),
      ...entry.top.map(([id, logprob], at) => named(id, logprob, at + 1)),
    ]);
  });
}

function sampledAndTop(entry: TokenLogprob): [number, number][] {
  return [[entry.token, entry.logprob], ...entry.top];
}

function withLogprobs(tokens: readonly OutputToken[]) {
  return tokens.flatMap((token) => {
    if (token.logprob === null) throw new Error('the node sent a token without the logprobs that were asked for');
    return [{ textOffset: token.textOffset, logprob: token.logprob }];
  });
}
