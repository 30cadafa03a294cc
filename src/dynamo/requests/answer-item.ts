import type { ChoiceDelta, Finish, OutputToken } from '../../frontend/choice-stream.ts';
import { finite, type TokenNames } from '../../frontend/logprobs.ts';
import type { Usage } from '../../frontend/usage.ts';

/** How a request wants its answer items. */
export interface ItemForm {
  /** Items say which of several choices they are of. */
  readonly indexed: boolean;
  readonly logprobs: boolean;
  /** Names tokens where items have texts; null = the frontend makes the text. */
  readonly names: TokenNames | null;
}

/** One answer item of Dynamo 1.4.0 (LLMEngineOutput) for what came of a choice; usage: with the last one of the request. */
export function answerItem(delta: ChoiceDelta, { indexed, logprobs, names }: ItemForm, usage: Usage | null): object {
  const { choice, text, tokens, finish } = delta;
  return {
    token_ids: tokens.map(({ id }) => id),
    ...(indexed && { index: choice }),
    ...(names !== null && { text, tokens: tokens.map(({ id }) => names.name(id)) }),
    ...(logprobs && logprobsOf(tokens, names)),
    ...(finish !== null && { finish_reason: finishReason(finish) }),
    ...(usage !== null && { completion_usage: usage }),
  };
}

function finishReason({ reason, stopReason }: Finish): 'length' | 'stop' | 'eos' {
  if (reason === 'length') return 'length';
  return stopReason === null ? 'eos' : 'stop';
}

/** Where the frontend makes the texts it names these tokens too. */
function logprobsOf(tokens: readonly OutputToken[], names: TokenNames | null): object {
  const entries = tokens.flatMap(({ logprob }) => logprob ?? []);
  const named = (id: number) => (names === null ? {} : { token: names.name(id), bytes: names.bytes(id) });
  return {
    log_probs: entries.map(({ logprob }) => finite(logprob)),
    top_logprobs: entries.map(({ top }) =>
      top.map(([id, logprob], at) => ({ rank: at + 1, token_id: id, ...named(id), logprob: finite(logprob) })),
    ),
  };
}
