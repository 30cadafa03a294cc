import type { Load } from '../protocol/messages.ts';
import type { StepRecord } from './api.ts';

const KEPT_RECORDS = 4096;
const RATE_WINDOW_MS = 3000;

/** Counts what an engine's steps did and keeps the last records; pure but for the clock it is given. */
export class StepCounters {
  readonly totals: Load['counters'] = {
    steps: 0,
    mixedSteps: 0,
    submits: 0,
    overlappedSubmits: 0,
    rows: 0,
    decodeRows: 0,
    prefillRows: 0,
    sampledTokens: 0,
    cachedTokens: 0,
    draftTokens: 0,
    acceptedTokens: 0,
    preemptions: 0,
  };
  private readonly kept: StepRecord[] = [];
  private recent: { at: number; tokens: number }[] = [];

  constructor(private readonly now: () => number) {}

  step(record: StepRecord): void {
    const t = this.totals;
    t.steps++;
    t.submits += record.submits;
    if (record.inFlight > 0) t.overlappedSubmits += record.submits;
    if (record.prefillRows > 0 && record.decodeRows > 0) t.mixedSteps++;
    t.rows += record.rows;
    t.prefillRows += record.prefillRows;
    t.decodeRows += record.decodeRows;
    t.preemptions += record.preempted;
    this.kept.push(record);
    if (this.kept.length > KEPT_RECORDS) this.kept.splice(0, KEPT_RECORDS / 2);
  }

  /** Tokens of one sequence, all but one of them drafts that were right; drafted: those that were found. None of one that is pooled. */
  sampled(tokens: number, drafted: number): void {
    if (tokens === 0) return;
    this.totals.sampledTokens += tokens;
    this.totals.draftTokens += drafted;
    this.totals.acceptedTokens += tokens - 1;
    this.recent.push({ at: this.now(), tokens });
  }

  cached(tokens: number): void {
    this.totals.cachedTokens += tokens;
  }

  records(): StepRecord[] {
    return [...this.kept];
  }

  /** Sampled tokens per second over the last three seconds. */
  tokensPerSecond(): number {
    const from = this.now() - RATE_WINDOW_MS;
    this.recent = this.recent.filter((r) => r.at >= from);
    return (this.recent.reduce((sum, r) => sum + r.tokens, 0) * 1000) / RATE_WINDOW_MS;
  }
}
