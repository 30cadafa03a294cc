import type { Logger } from 'pino';
import type { FrontendMetrics } from '../frontend/metrics.ts';
import { traceIdOf } from '../protocol/traceparent.ts';

/** `metrics`, and a line in the log (level info) for each request that ends: counts and times, no text of prompt or answer. */
export function logRequests(metrics: FrontendMetrics, log: Logger): FrontendMetrics {
  return {
    started(request) {
      const inner = metrics.started(request);
      const { traceparent, ...names } = request;
      let ttft: number | undefined;
      return {
        ...inner,
        firstToken(seconds) {
          ttft = seconds;
          inner.firstToken(seconds);
        },
        finished(outcome) {
          inner.finished(outcome);
          log.info({ ...names, traceId: traceIdOf(traceparent), ...outcome, ttft }, 'a request ended');
        },
      };
    },
  };
}
