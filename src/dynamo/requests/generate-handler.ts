import type { ServedModel } from '../../frontend/backend.ts';
import { ApiError } from '../../frontend/errors.ts';
import { generation } from '../../frontend/generation.ts';
import { tokenNames } from '../../frontend/logprobs.ts';
import { RouteReport } from '../../frontend/routing.ts';
import type { GenerateDeps, Handler, WishedPlace } from '../ports.ts';
import { answerError } from './answer-error.ts';
import { answerItem } from './answer-item.ts';
import { planRequest } from './plan.ts';
import { prefillHandler, prefillWish } from './prefill.ts';
import { parsePreprocessed } from './preprocessed-request.ts';

/** Where it goes is said to the hub itself. */
const ANYWHERE = { node: null, rank: null, knobs: {} };

/** Answers what Dynamo sends to a worker's `generate`: prompts in ids, answers in ids. */
export function generateHandler({ hub, worker, log }: GenerateDeps): Handler {
  const { node, model } = worker;
  const answer: Handler = async (body, reply, signal) => {
    const request = parsePreprocessed(body);
    const place: WishedPlace = {
      node: node.id,
      rank: request.routing.dp_rank ?? null,
      prefill: prefillWish(request.prefill_result),
    };
    const served: ServedModel = {
      ...model.served,
      backend: { generate: (asked, aborted) => hub.generate(model.served.name, asked, place, aborted) },
    };
    const { plan, withText, logprobs } = planRequest(request, served, hub.priorities);
    const names = withText ? tokenNames(served.tokenizer, false) : null;
    const form = { indexed: plan.n > 1, logprobs, names };
    const { deltas, tally } = generation(plan, new RouteReport(ANYWHERE), signal);
    const idsAlone = plan.n === 1 && names === null && !logprobs;
    let running = plan.n;
    for await (const delta of deltas) {
      reply.accept();
      if (delta.finish !== null) running -= 1;
      if (idsAlone && delta.finish === null) await reply.tokens(delta.tokens.map(({ id }) => id));
      else await reply.item(answerItem(delta, form, running === 0 ? tally.usage() : null));
    }
    reply.end();
  };
  const handler = node.card.role === 'prefill' ? prefillHandler(node.id, node.card.dpRank) : answer;
  return async (body, reply, signal) => {
    try {
      await handler(body, reply, signal);
    } catch (error) {
      if (!(error instanceof ApiError)) log.error({ err: error, node: node.id }, 'a request of Dynamo failed');
      const { type, message } = answerError(error);
      reply.error(type, message);
    }
  };
}
