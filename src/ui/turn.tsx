import type { AnswerWay } from './answer-way.ts';
import { bytes, count, milliseconds, rate } from './format.ts';
import { NodeName } from './node-name.tsx';
import type { AnswerStats, ChatTurn } from './state.ts';

/** A question and its answer, with the numbers of the answer. */
export function Turn({ turn }: { turn: ChatTurn }) {
  const { question, reasoning, answer, status, error, stats, way } = turn;
  return (
    <article class="turn">
      <p class="question" data-testid="question">
        {question}
      </p>
      <div class="answer" data-testid="answer" data-state={status}>
        {status === 'waiting' && <p class="quiet">waiting for the first token …</p>}
        {reasoning !== '' && (
          <details class="reasoning" data-testid="reasoning">
            <summary>{status === 'streaming' && answer === '' ? 'thinking …' : 'reasoning'}</summary>
            <p class="text">{reasoning}</p>
          </details>
        )}
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
        {way && <Way way={way} />}
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

/** How the answer was made: by which nodes, what moved between them, and where it went on. */
function Way({ way: { node, rank, overlapBlocks, transfer, migrations } }: { way: AnswerWay }) {
  const fellBack = transfer !== null && typeof transfer.fallback === 'string';
  return (
    <ul class="stats" data-testid="answer-way" data-node={node} data-migrations={migrations.length}>
      <li>
        {transfer !== null && !fellBack ? 'decoded by' : 'computed by'}{' '}
        <NodeName id={node} {...(rank !== null && { rank })} />
        {overlapBlocks > 0 && ` with ${count(overlapBlocks)} ${overlapBlocks === 1 ? 'block' : 'blocks'} cached`}
      </li>
      {transfer !== null && (
        <li
          data-testid="answer-transfer"
          data-state={fellBack ? 'fell_back' : 'moved'}
          data-transport={transfer.transport}
        >
          {fellBack ? 'not prefilled by' : 'prefilled by'} <NodeName id={transfer.prefill_node} />
          {fellBack ? `: ${transfer.message || transfer.fallback}` : movedText(transfer)}
        </li>
      )}
      {migrations.map(({ from_node: from, to_node: to, completion_tokens: after, numerics_changed }) => (
        <li key={`${from} ${to} ${after}`} data-testid="answer-migration">
          went on from <NodeName id={from} /> to <NodeName id={to} /> after {count(after)}{' '}
          {after === 1 ? 'token' : 'tokens'}
          {numerics_changed && ', with other numerics'}
        </li>
      ))}
    </ul>
  );
}

function movedText({ transport, blocks, bytes: size, milliseconds: took }: NonNullable<AnswerWay['transfer']>): string {
  const facts = [
    blocks != null && `${count(blocks)} ${blocks === 1 ? 'block' : 'blocks'}`,
    size != null && bytes(size),
    transport != null && `by ${transport}`,
    took != null && `in ${milliseconds(took)}`,
  ].filter((fact) => fact !== false);
  return facts.length === 0 ? '' : ` · ${facts.join(' · ')}`;
}
