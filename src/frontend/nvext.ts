import type { KvTransfer, Migration, Nvext, PrefilledBy, Routed } from './routing.ts';

/** When what happened, in the milliseconds of one clock. */
export interface Times {
  readonly arrived: number;
  /** null = no token yet. */
  readonly firstToken: number | null;
  readonly now: number;
}

/** The way that an answer took. */
export interface Way {
  readonly routed: Routed | undefined;
  /** What computed the prompt. */
  readonly prefilledBy: PrefilledBy | undefined;
  readonly transfer: KvTransfer | undefined;
}

/** The `nvext` of an answer: Dynamo's, with what `nvext.extra_fields` asked for, and always what more than one node had to do with it. */
export function nvextOf(
  asked: Nvext['extra_fields'],
  { routed, prefilledBy, transfer }: Way,
  { arrived, firstToken, now }: Times,
  migrations: readonly Migration[],
): { nvext?: object } {
  const prefill = prefilledBy ?? routed;
  const worker_id = routed && {
    ...{ prefill_worker_id: prefill?.node, prefill_dp_rank: prefill?.rank },
    ...{ decode_worker_id: routed.node, decode_dp_rank: routed.rank },
  };
  const timing = {
    request_received_ms: arrived,
    ...(firstToken === null ? {} : { ttft_ms: firstToken - arrived }),
    total_time_ms: now - arrived,
    ...(routed === undefined ? {} : { kv_hit_rate: routed.overlapBlocks / routed.promptBlocks }),
  };
  const nvext = {
    ...(asked?.includes('worker_id') && worker_id !== undefined ? { worker_id } : {}),
    ...(asked?.includes('timing') ? { timing } : {}),
    ...(transfer === undefined ? {} : { kv_transfer: transferTold(transfer) }),
    ...(migrations.length === 0 ? {} : { migrations: migrations.map(told) }),
  };
  return Object.keys(nvext).length === 0 ? {} : { nvext };
}

function told({ attempt, from, to, tokens, numericsChanged }: Migration): object {
  return { attempt, from_node: from, to_node: to, completion_tokens: tokens, numerics_changed: numericsChanged };
}

function transferTold(transfer: KvTransfer): object {
  const { prefillNode, transport } = transfer;
  if (transfer.kind === 'fallback')
    return { prefill_node: prefillNode, transport, fallback: transfer.why, message: transfer.message };
  return {
    ...{ prefill_node: prefillNode, transport, blocks: transfer.blocks, bytes: transfer.bytes },
    ...{ remote_tokens: transfer.remoteTokens, cached_tokens: transfer.cachedTokens },
    ...{ milliseconds: transfer.milliseconds, numerics_changed: transfer.numericsChanged },
  };
}
