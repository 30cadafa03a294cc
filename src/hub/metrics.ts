import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { FrontendMetrics, RequestLabels, RequestMetrics, RequestOutcome } from '../frontend/metrics.ts';
import type { Migration } from '../frontend/routing.ts';
import { type ClusterSource, nodeMetrics } from './node-metrics.ts';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const SHORT_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const TOKENS = [1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072];

/** Dynamo's words for when a node was lost: before the first token of the request, or after it. */
export type MigrationType = 'new_request' | 'ongoing_request';

/** Prometheus metrics. Names and meaning are those of Dynamo's frontend and of vLLM wherever the thing is the same. */
export class HubMetrics implements FrontendMetrics {
  readonly registry = new Registry();
  readonly #requests;
  readonly #firstToken;
  readonly #interToken;
  readonly #duration;
  readonly #inputTokens;
  readonly #outputTokens;
  readonly #promptTotal;
  readonly #generationTotal;
  readonly #cacheQueries;
  readonly #cacheHits;
  readonly #migrations;
  readonly #numericsChanges;
  readonly #cancellations;
  readonly #cancelCauses;

  constructor(source: ClusterSource) {
    const registers = [this.registry];
    const labelNames = ['model'] as const;
    const counter = (name: string, help: string) => new Counter({ name, help, labelNames: ['model_name'], registers });
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name: `dynamo_frontend_${name}`, help, buckets, labelNames, registers });
    this.#requests = new Counter({
      name: 'dynamo_frontend_requests_total',
      help: 'Requests that ended.',
      labelNames: ['model', 'endpoint', 'request_type', 'status'],
      registers,
    });
    this.#firstToken = histogram('time_to_first_token_seconds', 'From arrival to the first token.', SECONDS);
    this.#interToken = histogram('inter_token_latency_seconds', 'Between two tokens of a choice.', SHORT_SECONDS);
    this.#duration = histogram('request_duration_seconds', 'From arrival to the last byte.', SECONDS);
    this.#inputTokens = histogram('input_sequence_tokens', 'Prompt tokens of a request.', TOKENS);
    this.#outputTokens = histogram('output_sequence_tokens', 'Generated tokens of a request.', TOKENS);
    this.#promptTotal = counter('vllm:prompt_tokens_total', 'Prompt tokens of all requests.');
    this.#generationTotal = counter('vllm:generation_tokens_total', 'Generated tokens of all requests.');
    this.#cacheQueries = counter('vllm:prefix_cache_queries_total', 'Prompt tokens looked up in the prefix cache.');
    this.#cacheHits = counter('vllm:prefix_cache_hits_total', 'Prompt tokens found in the prefix cache.');
    this.#migrations = new Counter({
      name: 'dynamo_frontend_model_migration_total',
      help: 'Requests that went on on another node: ongoing_request after their first token, else new_request.',
      labelNames: ['model', 'migration_type'],
      registers,
    });
    this.#numericsChanges = new Counter({
      name: 'quire_migration_numerics_changed_total',
      help: 'Migrations after which tokens came from a node of another numerics id.',
      labelNames,
      registers,
    });
    this.#cancellations = new Counter({
      name: 'dynamo_frontend_model_cancellation_total',
      help: 'Requests that were cancelled: their client left, somebody asked for it, or they took too long.',
      labelNames: ['model', 'endpoint', 'request_type'],
      registers,
    });
    this.#cancelCauses = new Counter({
      name: 'quire_cancellations_total',
      help: 'The same by what cancelled them: disconnect, api, timeout.',
      labelNames: ['model', 'cause'],
      registers,
    });
    this.#gauge('dynamo_frontend_inflight_requests', 'Requests in work.', () => source.inflight());
    this.#gauge('dynamo_frontend_queued_requests', 'Requests in work that wait for their first token.', () =>
      source.queued(),
    );
    nodeMetrics(this.registry, source);
  }

  started(labels: RequestLabels): RequestMetrics {
    const { model } = labels;
    return {
      firstToken: (seconds) => this.#firstToken.observe({ model }, seconds),
      interToken: (seconds) => this.#interToken.observe({ model }, seconds),
      finished: (outcome) => this.#finished(labels, outcome),
    };
  }

  migrated(model: string, type: MigrationType, { numericsChanged }: Migration): void {
    this.#migrations.inc({ model, migration_type: type });
    if (numericsChanged) this.#numericsChanges.inc({ model });
  }

  #finished({ model, endpoint, stream }: RequestLabels, outcome: RequestOutcome): void {
    const request_type = stream ? 'stream' : 'unary';
    this.#requests.inc({ model, endpoint, request_type, status: outcome.status });
    if (outcome.cause !== null) {
      this.#cancellations.inc({ model, endpoint, request_type });
      this.#cancelCauses.inc({ model, cause: outcome.cause });
    }
    this.#duration.observe({ model }, outcome.seconds);
    this.#inputTokens.observe({ model }, outcome.promptTokens);
    this.#outputTokens.observe({ model }, outcome.completionTokens);
    this.#promptTotal.inc({ model_name: model }, outcome.promptTokens);
    this.#generationTotal.inc({ model_name: model }, outcome.completionTokens);
    this.#cacheQueries.inc({ model_name: model }, outcome.promptTokens);
    this.#cacheHits.inc({ model_name: model }, outcome.cachedTokens);
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
