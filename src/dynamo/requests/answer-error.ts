import { ApiError } from '../../frontend/errors.ts';
import type { DynamoErrorType } from '../ports.ts';

export interface AnswerError {
  readonly type: DynamoErrorType;
  readonly message: string;
}

/** Codes of `ApiError`s that mean: another worker may do it. Dynamo tries one, in its round-robin mode. */
const ELSEWHERE: ReadonlySet<string | null> = new Set([
  'node_lost',
  'node_stalled',
  'node_not_ready',
  'no_node_ready',
  'asleep',
]);

/**
 * What Dynamo is told of an error, so that its client gets our status where its frontend knows a way: `InvalidArgument` is a 400 with the
 * message, `Disconnected` and `EngineShutdown` go to another worker, and a message that is JSON with a code is that status. All else is a 500.
 */
export function answerError(error: unknown): AnswerError {
  if (!(error instanceof ApiError))
    return { type: 'Unknown', message: 'The worker failed while it answered this request. Its log has the cause.' };
  const { status, code, message } = error;
  if (status === 400) return { type: 'InvalidArgument', message };
  if (ELSEWHERE.has(code)) return { type: 'Disconnected', message };
  if (code === 'hub_stopping') return { type: { Backend: 'EngineShutdown' }, message };
  return { type: 'Unknown', message: JSON.stringify({ message, code: status }) };
}
