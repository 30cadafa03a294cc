import type { KvTransfer } from '../../frontend/routing.ts';
import { type ActiveTransfer, MAX_HAPPENINGS } from '../../protocol/cluster-state.ts';
import type { GenerateRequest } from '../../protocol/generate.ts';
import { MAX_EVENT_BLOCKS } from '../../protocol/kv-events.ts';
import type { Card, RemotePrefill } from '../../protocol/messages.ts';
import type { TransferOutcome, TransportName } from '../../protocol/transfer.ts';
import type { ActiveRequest, Attempt } from '../active-request.ts';
import { type NodeCandidate, ranksOf } from '../candidates.ts';
import type { DisaggregationConfig } from '../config.ts';
import type { NewHappening } from '../happenings.ts';
import type { NodeSocket } from '../node-socket.ts';
import type { Placement } from '../router/load-tracker.ts';
import type { Router } from '../router/router.ts';
import { decide, type PrefillFacts, transferableBlocks } from './decide.ts';
import { Pairs } from './pairs.ts';
import {
  type Ending,
  type PrefillClosed,
  promptOnly,
  type Transfer,
  Transfers,
  type TransfersOptions,
} from './transfers.ts';

/** Told of transfers, for the metrics. */
export interface TransferCounters {
  /** outcome: `done`, the reason of a fall-back, or `cancelled`; transport: null = none was opened. */
  ended(model: string, transport: TransportName | null, outcome: string): void;
  done(model: string, outcome: Extract<TransferOutcome, { kind: 'done' }>): void;
}

export interface DisaggregationOptions extends Omit<TransfersOptions, 'timeoutMs'> {
  readonly config: DisaggregationConfig;
  readonly blockSize: number;
  /** Ready nodes of role `prefill`. */
  readonly prefillers: (model: string) => readonly NodeSocket[];
  readonly router: Router;
  readonly counters: TransferCounters;
  readonly happened: (happening: NewHappening) => void;
}

/** A rank that could compute a prompt for another node, and the ways between them. */
interface Choice extends NodeCandidate {
  readonly transports: readonly TransportName[];
}

/** The choice that was made, with what the router knew of the prompt there. */
interface Decided extends Placement, PrefillFacts {
  readonly choice: Choice;
}

/** One transfer with what the hub remembers of it. */
interface Going {
  readonly active: ActiveRequest;
  readonly attempt: Attempt;
  readonly route: Placement;
  readonly prefill: Choice;
  /** What the prefill node is asked, as load, and how it was routed. */
  readonly asked: GenerateRequest;
  readonly askedPlacement: Placement;
  readonly startedAt: number;
  openedAt: number;
  transfer: Transfer;
}

/** Endings that say something of the way or the nodes, and not only of this request. */
const FAULTS: ReadonlySet<string> = new Set(['no_transport', 'stalled', 'refused', 'prefill_failed', 'closed']);

/** Lets prefill nodes compute prompts for decode nodes: decides when, follows each transfer, and tells what came of it. */
export class Disaggregation {
  readonly transfers: Transfers;
  readonly #options: DisaggregationOptions;
  readonly #pairs: Pairs;
  /** By the transfer's id. */
  readonly #going = new Map<string, Going>();
  /** Transfer of the current attempt, by request id. */
  readonly #current = new Map<string, Going>();

  constructor(options: DisaggregationOptions) {
    this.#options = options;
    this.#pairs = new Pairs(options.clock);
    this.transfers = new Transfers({ ...options, timeoutMs: options.config.timeoutMs });
  }

  /** An attempt begins on its node, by the route that the router gave: counts its load, and gives what the node is told of remote prefill. */
  begin(active: ActiveRequest, attempt: Attempt, route: Placement): RemotePrefill | null {
    const { router, clock } = this.#options;
    const { socket, place, generate } = attempt;
    const prefill = this.#choose(active, attempt, route);
    if (prefill === null) {
      router.added(place, generate, route);
      return null;
    }
    router.added(place, generate, { ...route, remotePrefill: true });
    const begun = this.transfers.begin({
      decode: socket,
      prefill: prefill.choice.socket,
      prefillRank: prefill.choice.rank,
      transports: prefill.choice.transports,
      generate,
      opened: () => this.#opened(going),
      prefilled: (closed) => this.#prefilled(going, closed),
      ended: (ending) => this.#ended(going, ending),
      over: () => this.#over(going),
    });
    const { id } = begun.transfer;
    const asked = promptOnly(generate, id);
    const now = clock.now();
    const going: Going = {
      ...{
        active,
        attempt,
        route,
        prefill: prefill.choice,
        asked,
        askedPlacement: prefill,
        startedAt: now,
        openedAt: now,
      },
      transfer: begun.transfer,
    };
    this.#going.set(id, going);
    this.#current.set(generate.request, going);
    router.added(prefill.choice, asked, prefill);
    return begun.prefill;
  }

  /** The attempt of the request is over: nobody needs its transfer. */
  leave(request: string): void {
    const going = this.#current.get(request);
    if (going !== undefined) this.transfers.end(going.transfer.id, 'the request is over, or goes on elsewhere');
    this.#current.delete(request);
  }

  /** A node's connection or engine is gone. */
  lost(socket: NodeSocket): void {
    this.transfers.lost(socket);
    this.#pairs.forget(socket.id);
  }

  /** Steps of the rank that computes the request's prompt now, for whoever wants to see it move. */
  prefillSteps(request: string): number {
    const prefill = this.#current.get(request)?.prefill;
    return prefill?.socket.steps(prefill.rank) ?? 0;
  }

  /** now: Unix milliseconds. */
  state(now: number): ActiveTransfer[] {
    const { clock } = this.#options;
    return [...this.#going.values()]
      .slice(0, MAX_HAPPENINGS)
      .map(({ active, attempt, prefill, transfer, startedAt }) => ({
        request: active.number,
        prefillNode: prefill.id,
        decodeNode: attempt.socket.id,
        transport: transfer.transport,
        blocks: transfer.wanted?.hashes.length ?? 0,
        startedAt: now - (clock.now() - startedAt),
      }));
  }

  #choose(active: ActiveRequest, { socket, place, generate }: Attempt, route: Placement): Decided | null {
    const { config, blockSize, router } = this.#options;
    const { prompt, embeds, pooling, sampling } = generate;
    const { card } = socket;
    if (card === null || card.role !== 'decode') return null;
    // KV goes by the hashes of ids.
    if (embeds !== undefined) return null;
    // An embedding is made where the whole prompt is computed; its node decodes nothing, so that nothing is won.
    if (pooling !== undefined) return null;
    // Prompt logprobs are made where the prompt is computed.
    if (sampling.promptLogprobs !== null) return null;
    const wanted = transferableBlocks(prompt.length, blockSize) - route.overlapBlocks;
    if (wanted > MAX_EVENT_BLOCKS) return null;
    const choices = this.#choices(active, socket.id, card, prompt.length);
    if (choices.length === 0) return null;
    const load = router.load(place);
    return decide<Decided>({
      promptTokens: prompt.length,
      blockSize,
      minTokens: config.minTokens,
      decode: {
        prefillRate: load.prefillRate,
        queuedBlocks: load.prefillBlocks,
        overlapBlocks: route.overlapBlocks,
        sequences: load.sequences,
      },
      prefills: router.options(generate, choices).map(({ candidate, load, overlapBlocks, known }) => ({
        choice: candidate,
        known,
        prefillRate: load.prefillRate,
        queuedBlocks: load.prefillBlocks,
        overlapBlocks,
        transferRate: this.#pairs.transferRate(candidate.id, socket.id, candidate.transports),
        openMs: this.#pairs.openMs(candidate.id, socket.id),
      })),
    });
  }

  /** Ranks of prefill nodes whose blocks the decode node can use, by a way that both have: the one that the request names, else those whose numbers are the same bit for bit before others. */
  #choices({ model, lora, routing }: ActiveRequest, decode: string, card: Card, promptTokens: number): Choice[] {
    const choices: Choice[] = [];
    for (const socket of this.#options.prefillers(model)) {
      const { id, card: own } = socket;
      if (own === null || own.fingerprint !== card.fingerprint || own.kvCacheDtype !== card.kvCacheDtype) continue;
      if (lora !== null && !socket.loras.has(lora)) continue;
      if (own.maxModelLen <= promptTokens || !this.#pairs.usable(id, decode)) continue;
      // As in routing: a software adapter does not serve where hardware is.
      if (own.adapter.software && !card.adapter.software) continue;
      const transports = this.#options.config.transports.filter((name) => reaches(name, own, card));
      if (transports.length > 0) choices.push(...ranksOf(socket).map((each) => ({ ...each, transports })));
    }
    const { prefill } = routing;
    const wished = choices.filter(({ id, rank }) => id === prefill?.node && rank === prefill.rank);
    if (wished.length > 0) return wished;
    const alike = choices.filter((choice) => choice.card.numericsId === card.numericsId);
    return alike.length > 0 ? alike : choices;
  }

  #opened(going: Going): void {
    const { clock, router } = this.#options;
    const { attempt, prefill, asked, askedPlacement, startedAt } = going;
    going.openedAt = clock.now();
    this.#pairs.opened(prefill.id, attempt.socket.id, going.openedAt - startedAt);
    // Counted anew, so that its rate is measured from here.
    router.freed(prefill, asked);
    router.added(prefill, asked, askedPlacement);
  }

  #prefilled(
    { active, attempt, prefill, transfer }: Going,
    { computedTokens, blocks, bytes, failed }: PrefillClosed,
  ): void {
    if (failed !== null) return;
    const { router, happened } = this.#options;
    const { prompt } = attempt.generate;
    const computed = Math.min(computedTokens, prompt.length);
    // Where it had most of the prompt, the time went into sending.
    if (computed * 2 >= prompt.length) router.prefilled(prefill, transfer.id, prompt.length - computed);
    const { number: request, model } = active;
    const nodes = { node: prefill.id, decodeNode: attempt.socket.id };
    happened({ kind: 'prefilled', request, model, ...nodes, computedTokens: computed, blocks, bytes });
  }

  #ended(going: Going, ending: Ending): void {
    const { active, prefill, transfer } = going;
    const { counters } = this.#options;
    const outcome = ending.kind === 'local' ? ending.why : ending.kind;
    counters.ended(active.model, transfer.transport, outcome);
    if (ending.kind === 'done') this.#done(going, ending);
    if (ending.kind === 'local') this.#fellBack(going, ending);
    if (ending.kind === 'local' && FAULTS.has(ending.why) && connected(going))
      this.#pairs.failed(prefill.id, going.attempt.socket.id);
  }

  #done(going: Going, outcome: Extract<TransferOutcome, { kind: 'done' }>): void {
    const { active, attempt, prefill, openedAt, startedAt } = going;
    const { clock, counters, happened } = this.#options;
    const now = clock.now();
    const { transport, blocks, bytes } = outcome;
    if (connected(going)) this.#pairs.done(prefill.id, attempt.socket.id, transport, blocks, now - openedAt);
    const prompt = attempt.generate.prompt.length;
    const told = {
      ...outcome,
      // What nodes say is not trusted further than it can be true.
      milliseconds: Math.min(outcome.milliseconds, now - startedAt),
      computedTokens: Math.min(outcome.computedTokens, prompt),
      cachedTokens: Math.min(outcome.cachedTokens, prompt),
    };
    counters.done(active.model, told);
    const { milliseconds } = told;
    const nodes = { from: prefill.id, to: attempt.socket.id };
    const { number: request, model } = active;
    happened({ kind: 'transferred', request, model, ...nodes, transport, blocks, bytes, milliseconds });
    this.#tell(going, {
      kind: 'done',
      ...{ prefillNode: prefill.id, prefillRank: prefill.rank, transport, blocks, bytes, milliseconds },
      remoteTokens: told.computedTokens,
      cachedTokens: told.cachedTokens,
      numericsChanged: prefill.card.numericsId !== attempt.socket.card?.numericsId,
    });
  }

  /** The prompt counts at the decode node from now on. */
  #fellBack(going: Going, { why, message, ...told }: Extract<TransferOutcome, { kind: 'local' }>): void {
    const transport = told.transport ?? null;
    const { active, attempt, prefill, route } = going;
    const { router, happened } = this.#options;
    router.freed(attempt.place, attempt.generate);
    router.added(attempt.place, attempt.generate, route);
    const nodes = { node: attempt.socket.id, prefillNode: prefill.id };
    const { number: request, model } = active;
    happened({ kind: 'fell_back', request, model, ...nodes, transport, why, message });
    this.#tell(going, { kind: 'fallback', prefillNode: prefill.id, transport, why, message });
  }

  #tell({ active, attempt }: Going, transfer: KvTransfer): void {
    if (active.current === attempt) active.routing.transferred(transfer);
  }

  #over(going: Going): void {
    const { attempt, prefill, asked, transfer } = going;
    this.#going.delete(transfer.id);
    const { request } = attempt.generate;
    if (this.#current.get(request) === going) this.#current.delete(request);
    this.#options.router.freed(prefill, asked);
  }
}

/** Whether both nodes are still there: of one that left nothing is remembered. */
function connected({ attempt, prefill }: Going): boolean {
  return attempt.socket.state !== 'closed' && prefill.socket.state !== 'closed';
}

/** Whether two nodes can hand over blocks in this way. */
function reaches(transport: TransportName, a: Card, b: Card): boolean {
  if (!a.transports.includes(transport) || !b.transports.includes(transport)) return false;
  return transport !== 'local' || (a.localScope !== null && a.localScope === b.localScope);
}
