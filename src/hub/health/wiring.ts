import type { HubConfig } from '../config.ts';
import type { ModelFolder } from '../model-folder.ts';
import type { FrameSink } from '../node-socket.ts';
import { canaryRequest } from './canary-request.ts';
import { HealthChecks, type HealthChecksOptions } from './health-checks.ts';

/** The hub's health checks, or null where it makes none. Throws `HubStartError` for a payload that a model cannot compute. */
export function healthChecksOf(
  { healthCheck }: Pick<HubConfig, 'healthCheck'>,
  models: readonly ModelFolder[],
  rest: Omit<HealthChecksOptions, 'config' | 'payload'>,
): HealthChecks | null {
  if (healthCheck === null) return null;
  const requests = new Map(models.map((model) => [model.name, canaryRequest(healthCheck.payload, model)]));
  return new HealthChecks({ ...rest, config: healthCheck, payload: (model) => requests.get(model)! });
}

/** Health checks hear what the dispatcher hears, before it. */
export function tee(health: HealthChecks, sink: FrameSink): FrameSink {
  return {
    tokens(socket, frames) {
      health.tokens(socket, frames);
      sink.tokens(socket, frames);
    },
    failed(socket, failure) {
      health.failed(socket, failure);
      sink.failed(socket, failure);
    },
    lost(socket, reason) {
      health.lost(socket);
      sink.lost(socket, reason);
    },
  };
}
