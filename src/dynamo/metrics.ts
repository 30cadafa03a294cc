import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { hex } from './cards/names.ts';
import type { Instance } from './cards/records.ts';
import type { RequestObserver } from './ports.ts';

const LABELS = ['dynamo_namespace', 'dynamo_component', 'dynamo_endpoint', 'worker_id'] as const;
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
/** Most endpoints with series of their own: a label must not grow without bound. */
const MAX_SERIES = 512;

/** What a native worker of Dynamo measures of its endpoints, by its names. */
export class BridgeMetrics {
  readonly #series = new Set<string>();
  readonly #requests;
  readonly #seconds;
  readonly #inflight;
  readonly #requestBytes;
  readonly #responseBytes;
  readonly #cancellations;
  readonly #errors;

  constructor(registry: Registry) {
    const registers = [registry];
    const counter = (name: string, help: string) =>
      new Counter({ name: `dynamo_component_${name}`, help, labelNames: LABELS, registers });
    this.#requests = counter('requests_total', 'Requests that came over the request plane of Dynamo.');
    this.#requestBytes = counter('request_bytes_total', 'Bytes of these requests.');
    this.#responseBytes = counter('response_bytes_total', 'Bytes of the answers.');
    this.#cancellations = counter('cancellation_total', 'Requests that the frontend of Dynamo gave up.');
    this.#errors = counter('errors_total', 'Requests that ended in an error.');
    this.#inflight = new Gauge({
      name: 'dynamo_component_inflight_requests',
      help: 'Requests of Dynamo in work.',
      labelNames: LABELS,
      registers,
    });
    this.#seconds = new Histogram({
      name: 'dynamo_component_request_duration_seconds',
      help: 'From the arrival of a request to the end of its answer.',
      labelNames: LABELS,
      buckets: SECONDS,
      registers,
    });
    const started = performance.now();
    new Gauge({
      name: 'dynamo_component_uptime_seconds',
      help: 'Since the bridge to Dynamo started.',
      registers,
      collect() {
        this.set((performance.now() - started) / 1000);
      },
    });
  }

  /** Measures the requests of an endpoint; undefined where too many have series already. */
  observer(instance: Instance): RequestObserver | undefined {
    if (this.#series.size >= MAX_SERIES) return undefined;
    const labels = labelsOf(instance);
    this.#series.add(JSON.stringify(labels));
    return {
      began: (bytes) => {
        this.#requests.inc(labels);
        this.#requestBytes.inc(labels, bytes);
        this.#inflight.inc(labels);
      },
      sent: (bytes) => this.#responseBytes.inc(labels, bytes),
      ended: (outcome, seconds) => {
        this.#inflight.dec(labels);
        this.#seconds.observe(labels, seconds);
        if (outcome === 'cancelled') this.#cancellations.inc(labels);
        if (outcome === 'error') this.#errors.inc(labels);
      },
    };
  }

  /** The endpoint is no more. */
  forget(instance: Instance): void {
    const labels = labelsOf(instance);
    if (!this.#series.delete(JSON.stringify(labels))) return;
    this.#requests.remove(labels);
    this.#requestBytes.remove(labels);
    this.#responseBytes.remove(labels);
    this.#cancellations.remove(labels);
    this.#errors.remove(labels);
    this.#inflight.remove(labels);
    this.#seconds.remove(labels);
  }
}

function labelsOf({ namespace, component, endpoint, instance }: Instance) {
  return {
    dynamo_namespace: namespace,
    dynamo_component: component,
    dynamo_endpoint: endpoint,
    worker_id: hex(instance),
  };
}
