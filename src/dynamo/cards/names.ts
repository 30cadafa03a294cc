import { randomBytes } from 'node:crypto';
import type { Role } from '../../protocol/messages.ts';

/** Where requests go: `namespace.component.endpoint`. */
export interface EndpointName {
  readonly namespace: string;
  readonly component: string;
  readonly endpoint: string;
}

/** Dynamo's name of the endpoint that answers. */
export const GENERATE = 'generate';

/** Component of a role; Dynamo's own workers are in `backend` and `prefill`. */
const COMPONENTS: Readonly<Record<Role, string>> = { agg: 'backend', decode: 'decode', prefill: 'prefill' };

/** An id of a worker or publisher: random, not 0, and below 2^53, so that it is a plain number in JSON. */
export function newId(): number {
  return randomBytes(6).readUIntBE(0, 6) + 1;
}

/** Ids in keys and paths. */
export const hex = (id: number): string => id.toString(16);

/** Dynamo's slug of a name: lower case; what is not `a-z0-9_-` becomes `_`; no `_` at its beginning. */
export function slugOf(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z\d_-]/g, '_')
    .replace(/^_+/, '');
}

/**
 * The component of a model's nodes of one role. Dynamo routes by endpoint and not by model, so each model has its own; `quire` keeps it
 * from those of other engines, whose cards for the same model differ.
 */
export function componentOf(model: string, role: Role): string {
  return `quire-${COMPONENTS[role]}-${slugOf(model)}`;
}

/** The endpoint that gives the blocks of one publisher's prefix cache. */
export const queryEndpoint = (publisher: number): string => `worker_kv_query_source_${hex(publisher)}`;

/** Path of an instance's endpoint on a request plane. */
export const pathOf = (instance: number, endpoint: string): string => `${hex(instance)}/${endpoint}`;
