import * as z from 'zod';

const count = z.number().int().min(1).max(10_000_000);
const endpoint = z
  .string()
  .max(1024)
  .regex(/^(tcp|ipc|inproc):\/\/./, 'expected an endpoint such as tcp://*:5557');

/** `--kv-events-config`, with the keys of vLLM's `KVEventsConfig`. All but the first two are the ZMQ publisher's. */
export const KvEventsConfig = z
  .strictObject({
    enable_kv_cache_events: z.boolean().default(true),
    publisher: z.enum(['hub', 'zmq', 'null']).default('hub'),
    endpoint: endpoint.optional(),
    replay_endpoint: endpoint.nullable().optional(),
    buffer_steps: count.optional(),
    hwm: count.optional(),
    max_queue_size: count.optional(),
    topic: z.string().max(256).optional(),
  })
  .superRefine(({ enable_kv_cache_events, publisher, ...zmq }, ctx) => {
    const [key] = Object.keys(zmq);
    if (publisher !== 'zmq' && key !== undefined)
      ctx.addIssue({ code: 'custom', path: [key], message: 'only the publisher "zmq" has it' });
  });
export type KvEventsConfig = z.infer<typeof KvEventsConfig>;

/** Nodes tell nothing of their prefix caches where nobody shall hear of them. */
export function tellsKvEvents(config: KvEventsConfig | null): boolean {
  return config === null || (config.enable_kv_cache_events && config.publisher !== 'null');
}
