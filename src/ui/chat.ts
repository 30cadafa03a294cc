import { batch } from '@preact/signals';
import type { ApiFetch } from '../node/page/worker-fetch.ts';
import { type ChatDelta, ChatError, type ChatMessage, streamChat } from './chat-client.ts';
import { type AnswerStats, apiKey, apiKeyWanted, type ChatTurn, chatSettings, turns } from './state.ts';

/** Tokens come in bursts; over a shorter time than this they tell nothing of speed. */
const SHORTEST_MEASURE_MS = 250;

/** The playground's conversation: one answer at a time, whose turn is always the last of `turns`. */
export class Chat {
  private stopCurrent: AbortController | null = null;

  constructor(
    private readonly fetchApi: ApiFetch,
    /** Served name to ask for, or null while none is known. */
    private readonly model: () => string | null,
    private readonly now: () => number,
  ) {}

  /** Asks a question with the conversation so far; resolves when the answer is complete, stopped or failed. */
  async send(question: string): Promise<void> {
    if (this.stopCurrent) return;
    const stop = new AbortController();
    this.stopCurrent = stop;
    const messages = history(turns.value, question);
    const turn = {
      question,
      reasoning: '',
      answer: '',
      status: 'waiting',
      error: null,
      stats: null,
      way: null,
    } as const;
    turns.value = [...turns.value, turn];
    const started = this.now();
    let firstAt: number | null = null;
    let counted = 0;
    try {
      const model = this.model();
      if (model === null) throw new ChatError(503, 'No model is being served yet. Wait until a node is ready.');
      const { temperature, maxTokens } = chatSettings.value;
      const asked = { model, messages, temperature, maxTokens, apiKey: apiKey.value };
      for await (const delta of streamChat(this.fetchApi, asked, stop.signal)) {
        const now = this.now();
        if (delta.tokens > 0) firstAt ??= now;
        counted += delta.tokens;
        const after = firstAt === null ? 0 : now - firstAt;
        const rate = delta.tokens > 0 && after >= SHORTEST_MEASURE_MS ? ((counted - 1) * 1000) / after : null;
        this.grow(delta, { firstTokenMs: firstAt === null ? null : firstAt - started, counted, rate });
      }
      this.change((turn) => ({ ...turn, status: 'done' }));
    } catch (error) {
      this.fail(error, stop.signal.aborted);
    } finally {
      this.stopCurrent = null;
    }
  }

  /** Ends the answer that streams now; what came of it stays. */
  stop(): void {
    this.stopCurrent?.abort();
  }

  /** Forgets the conversation. */
  clear(): void {
    this.stop();
    turns.value = [];
  }

  private grow(delta: ChatDelta, at: { firstTokenMs: number | null; counted: number; rate: number | null }): void {
    this.change((turn) => {
      const before: AnswerStats | null = turn.stats;
      const stats: AnswerStats = {
        firstTokenMs: at.firstTokenMs,
        tokensPerSecond: at.rate ?? before?.tokensPerSecond ?? null,
        completionTokens: delta.usage?.completionTokens ?? at.counted,
        promptTokens: delta.usage?.promptTokens ?? before?.promptTokens ?? null,
        cachedTokens: delta.usage?.cachedTokens ?? before?.cachedTokens ?? null,
        finishReason: delta.finishReason ?? before?.finishReason ?? null,
      };
      const status = at.counted > 0 ? 'streaming' : turn.status;
      const said = { reasoning: turn.reasoning + delta.reasoning, answer: turn.answer + delta.text };
      return { ...turn, ...said, status, stats, way: delta.way };
    });
  }

  private fail(error: unknown, stopped: boolean): void {
    if (stopped) {
      this.change((turn) => ({ ...turn, status: 'stopped' }));
      return;
    }
    batch(() => {
      if (error instanceof ChatError && error.status === 401) apiKeyWanted.value = true;
      const message = error instanceof Error ? error.message : String(error);
      const text = error instanceof TypeError ? `The hub cannot be reached (${message}). Check that it runs.` : message;
      this.change((turn) => ({ ...turn, status: 'failed', error: text }));
    });
  }

  private change(step: (turn: ChatTurn) => ChatTurn): void {
    const last = turns.value.at(-1);
    if (last) turns.value = [...turns.value.slice(0, -1), step(last)];
  }
}

/** Messages of the turns that have an answer, then the new question. */
function history(done: readonly ChatTurn[], question: string): ChatMessage[] {
  const answered = done.filter((turn) => turn.answer !== '');
  return [
    ...answered.flatMap((turn): ChatMessage[] => [
      { role: 'user', content: turn.question },
      { role: 'assistant', content: turn.answer },
    ]),
    { role: 'user', content: question },
  ];
}
