import { Counter, Gauge, Registry } from 'prom-client';
import type { FrontendMetrics, RequestLabels, RequestMetrics, RequestOutcome } from '../frontend/metrics.ts';
import type { Migration } from '../frontend/routing.ts';
import { LiveHistogram } from './live-histogram.ts';
import { type ClusterSource, nodeMetrics } from './node-metrics.ts';

export const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
export const SHORT_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const TOKENS = [1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072];

/** Dynamo's words for when a node was lost: before the first token of the request, or after it. */
export type MigrationType = 'new_request' | 'ongoing_request';

/** Tokens and requests of one model, or of all, since the start. */
export interface Totals {
  /** Requests that ended. */
  requests: number;
  promptTokens: number;
  cachedTokens: number;
  /** Counted as they come, not when their request ends. */
  generatedTokens: number;
}

/** Prometheus metrics. Names and meaning are those of Dynamo's frontend and of vLLM wherever the thing is the same. */
export class HubMetrics implements FrontendMetrics {
  readonly registry = new Registry();
  readonly firstToken = new LiveHistogram(SECONDS);
  readonly interToken = new LiveHistogram(SHORT_SECONDS);
  readonly #duration = new LiveHistogram(SECONDS);
  readonly #inputTokens = new LiveHistogram(TOKENS);
  readonly #outputTokens = new LiveHistogram(TOKENS);
  readonly #totals = new Map<string, Totals>();
  readonly #requests;
  readonly #success;
  readonly #migrations;
  readonly #numericsChanges;
  readonly #cancellations;
  readonly #cancelCauses;

  constructor(source: ClusterSource) {
    const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
      new Counter({ name, help, labelNames, registers: [this.registry] });
    const labels = ['model', 'endpoint', 'request_type'] as const;
    this.#requests = counter('dynamo_frontend_requests_total', 'Requests that ended.', [...labels, 'status']);
    this.#histograms();
    this.#success = counter('vllm:request_success_total', 'Choices that ended, by their finish reason.', [
      'model_name',
      'finished_reason',
    ]);
    this.#counters();
    this.#migrations = counter(
      'dynamo_frontend_model_migration_total',
      'Requests that went on on another node: ongoing_request after their first token, else new_request.',
      ['model', 'migration_type'],
    );
    this.#numericsChanges = counter(
      'quire_migration_numerics_changed_total',
      'Migrations after which tokens came from a node of another numerics id.',
      ['model'],
    );
    this.#cancellations = counter(
      'dynamo_frontend_model_cancellation_total',
      'Requests that were cancelled: their client left, somebody asked for it, or they took too long.',
      labels,
    );
    this.#cancelCauses = counter(
      'quire_cancellations_total',
      'The same by what cancelled them: disconnect, api, timeout.',
      ['model', 'cause'],
    );
    this.#gauge('dynamo_frontend_inflight_requests', 'Requests in work.', () => source.inflight());
    this.#gauge('dynamo_frontend_queued_requests', 'Requests in work that wait for their first token.', () =>
      source.queued(),
    );
    nodeMetrics(this.registry, source);
  }

  started(labels: RequestLabels): RequestMetrics {
    const { model } = labels;
    const first = this.firstToken.of(model);
    const inter = this.interToken.of(model);
    const totals = this.#totalsOf(model);
    return {
      firstToken: (seconds) => first.observe(seconds),
      interToken: (seconds) => inter.observe(seconds),
      generated(tokens) {
        totals.generatedTokens += tokens;
      },
      choiceEnded: (finished_reason) => this.#success.inc({ model_name: model, finished_reason }),
      finished: (outcome) => this.#finished(labels, outcome),
    };
  }

  migrated(model: string, type: MigrationType, { numericsChanged }: Migration): void {
    this.#migrations.inc({ model, migration_type: type });
    if (numericsChanged) this.#numericsChanges.inc({ model });
  }

  /** Of all models. */
  totals(): Totals {
    const sum = { requests: 0, promptTokens: 0, cachedTokens: 0, generatedTokens: 0 };
    for (const totals of this.#totals.values())
      for (const field of Object.keys(sum) as (keyof Totals)[]) sum[field] += totals[field];
    return sum;
  }

  #finished({ model, endpoint, stream }: RequestLabels, outcome: RequestOutcome): void {
    const request_type = stream ? 'stream' : 'unary';
    this.#requests.inc({ model, endpoint, request_type, status: outcome.status });
    if (outcome.cause !== null) {
      this.#cancellations.inc({ model, endpoint, request_type });
      this.#cancelCauses.inc({ model, cause: outcome.cause });
    }
    this.#duration.of(model).observe(outcome.seconds);
    this.#inputTokens.of(model).observe(outcome.promptTokens);
    this.#outputTokens.of(model).observe(outcome.completionTokens);
    const totals = this.#totalsOf(model);
    totals.requests += 1;
    totals.promptTokens += outcome.promptTokens;
    totals.cachedTokens += outcome.cachedTokens;
  }

  #totalsOf(model: string): Totals {
    const known = this.#totals.get(model);
    if (known !== undefined) return known;
    const fresh = { requests: 0, promptTokens: 0, cachedTokens: 0, generatedTokens: 0 };
    this.#totals.set(model, fresh);
    return fresh;
  }

  #histograms(): void {
    const both = (live: LiveHistogram, dynamo: string, vllm: string, help: string) => {
      live.exportAs(this.registry, `dynamo_frontend_${dynamo}`, help, 'model');
      live.exportAs(this.registry, `vllm:${vllm}`, help, 'model_name');
    };
    const first = 'time_to_first_token_seconds';
    const inter = 'inter_token_latency_seconds';
    both(this.firstToken, first, first, 'From arrival to the first token.');
    both(this.interToken, inter, inter, 'Between two tokens of a choice.');
    both(this.#duration, 'request_duration_seconds', 'e2e_request_latency_seconds', 'From arrival to the last byte.');
    both(this.#inputTokens, 'input_sequence_tokens', 'request_prompt_tokens', 'Prompt tokens of a request.');
    both(this.#outputTokens, 'output_sequence_tokens', 'request_generation_tokens', 'Generated tokens of a request.');
  }

  #counters(): void {
    const counter = (name: string, label: 'model' | 'model_name', field: keyof Totals, help: string) => {
      const totals = this.#totals;
      new Counter({
        name,
        help,
        labelNames: [label],
        registers: [this.registry],
        collect() {
          this.reset();
          for (const [model, all] of totals) this.inc({ [label]: model }, all[field]);
        },
      });
    };
    counter('vllm:prompt_tokens_total', 'model_name', 'promptTokens', 'Prompt tokens of all requests.');
    counter('vllm:generation_tokens_total', 'model_name', 'generatedTokens', 'Generated tokens of all requests.');
    counter('dynamo_frontend_output_tokens_total', 'model', 'generatedTokens', 'Generated tokens of all requests.');
    const queries = 'Prompt tokens looked up in the prefix cache.';
    counter('vllm:prefix_cache_queries_total', 'model_name', 'promptTokens', queries);
    counter('vllm:prefix_cache_hits_total', 'model_name', 'cachedTokens', 'Prompt tokens found in the prefix cache.');
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }
}
