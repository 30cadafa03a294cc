import type { Nvext, Routed } from './routing.ts';

/** When what happened, in the milliseconds of one clock. */
export interface Times {
  readonly arrived: number;
  /** null = no token yet. */
  readonly firstToken: number | null;
  readonly now: number;
}

/** The `nvext` of an answer: Dynamo's, with what `nvext.extra_fields` asked for; nothing where nothing was asked. */
export function nvextOf(
  asked: Nvext['extra_fields'],
  routed: Routed | undefined,
  { arrived, firstToken, now }: Times,
): { nvext?: object } {
  if (asked === undefined || asked.length === 0) return {};
  const worker_id = routed && { prefill_worker_id: routed.node, decode_worker_id: routed.node };
  const timing = {
    request_received_ms: arrived,
    ...(firstToken === null ? {} : { ttft_ms: firstToken - arrived }),
    total_time_ms: now - arrived,
    ...(routed === undefined ? {} : { kv_hit_rate: routed.overlapBlocks / routed.promptBlocks }),
  };
  return {
    nvext: {
      ...(asked.includes('worker_id') && worker_id !== undefined ? { worker_id } : {}),
      ...(asked.includes('timing') ? { timing } : {}),
    },
  };
}
