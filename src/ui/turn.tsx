import { count, milliseconds, rate } from './format.ts';
import type { AnswerStats, ChatTurn } from './state.ts';

/** A question and its answer, with the numbers of the answer. */
export function Turn({ turn }: { turn: ChatTurn }) {
  const { question, answer, status, error, stats } = turn;
  return (
    <article class="turn">
      <p class="question" data-testid="question">
        {question}
      </p>
      <div class="answer" data-testid="answer" data-state={status}>
        {status === 'waiting' && <p class="quiet">waiting for the first token …</p>}
        <p class="text">
          {answer}
          {status === 'streaming' && <span class="caret" aria-hidden="true" />}
        </p>
        {error !== null && (
          <p class="notice" role="alert" data-testid="chat-error">
            {error}
          </p>
        )}
        {stats && <Stats stats={stats} />}
        {status === 'stopped' && <p class="stats">stopped by you</p>}
      </div>
    </article>
  );
}

function Stats({ stats }: { stats: AnswerStats }) {
  const { firstTokenMs, tokensPerSecond, completionTokens, promptTokens, cachedTokens, finishReason } = stats;
  return (
    <ul class="stats" data-testid="answer-stats">
      {tokensPerSecond !== null && <li>{rate(tokensPerSecond)} tokens/s</li>}
      {firstTokenMs !== null && <li>first token after {milliseconds(firstTokenMs)}</li>}
      <li>
        {count(completionTokens)} {completionTokens === 1 ? 'token' : 'tokens'}
      </li>
      {promptTokens !== null && (
        <li data-testid="cached-tokens" data-cached={cachedTokens ?? 0}>
          {count(promptTokens)} in the prompt
          {cachedTokens !== null && cachedTokens > 0 && `, ${count(cachedTokens)} of them cached`}
        </li>
      )}
      {finishReason === 'length' && <li>cut at the token limit</li>}
    </ul>
  );
}
