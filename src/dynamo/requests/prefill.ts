import * as z from 'zod';
import type { Handler, WishedPlace } from '../ports.ts';
import { parsePreprocessed } from './preprocessed-request.ts';

/**
 * What a prefill worker's answer tells the decode worker, by way of the frontend. Nothing is computed for it: in Quire the decode node takes its
 * blocks first, and the prefill node computes the prompt when it is asked for them, and sends them as it goes.
 */
const Params = z.object({ quire: z.object({ node: z.string(), rank: z.number().int().min(0) }) });

/** Answers the prefill leg of a request. */
export function prefillHandler(node: string, firstRank: number): Handler {
  return async (body, reply) => {
    const { token_ids, routing } = parsePreprocessed(body);
    const params: z.infer<typeof Params> = { quire: { node, rank: routing.dp_rank ?? firstRank } };
    // The frontend throws the token away, and wants one.
    await reply.item({ token_ids: token_ids.slice(-1), disaggregated_params: params, finish_reason: 'length' });
    reply.end();
  };
}

/** Who shall compute the prompt of a decode leg; null = nobody of ours was chosen. */
export function prefillWish(
  prefillResult: { readonly disaggregated_params?: unknown } | undefined,
): WishedPlace['prefill'] {
  const params = Params.safeParse(prefillResult?.disaggregated_params);
  return params.success ? params.data.quire : null;
}
