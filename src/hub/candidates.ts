import { type ApiError, badRequest, unavailable } from '../frontend/errors.ts';
import type { GenerateRequest } from '../protocol/generate.ts';
import type { LoraId } from '../protocol/messages.ts';
import type { ActiveRequest } from './active-request.ts';
import type { NodeSocket } from './node-socket.ts';
import type { Candidate } from './router/choice.ts';
import type { Route } from './router/router.ts';

/** A rank of a ready node that can hold a request. */
export interface NodeCandidate extends Candidate {
  readonly socket: NodeSocket;
}

/** Ready nodes of a model, by what they do. */
export interface ReadyNodes {
  /** Those that compute answers: roles `agg` and `decode`. */
  ready(model: string): readonly NodeSocket[];
  /** Those that compute prompts for others: role `prefill`. */
  prefillers(model: string): readonly NodeSocket[];
}

interface Listed {
  readonly candidates: readonly NodeCandidate[];
  /** Least `maxModelLen` among them. */
  readonly shortest: number;
}

/** Which ranks of which nodes may compute an answer, and what to say where none can. */
export class Candidates {
  readonly #lists = new WeakMap<readonly NodeSocket[], Listed>();
  readonly #decoders = new WeakMap<readonly NodeCandidate[], readonly NodeCandidate[]>();

  constructor(
    private readonly nodes: ReadyNodes,
    /** Whether nodes of the model sleep. */
    private readonly asleep: (model: string) => boolean,
  ) {}

  /**
   * Nodes of the answer's numerics id before others; one that hung before may wake up, and is better than waiting for none. Where
   * prefill nodes are there, those that leave prompts to them come before those that do both.
   */
  best(active: ActiveRequest, when: 'now' | 'wait'): readonly NodeCandidate[] {
    const all = this.#all(active);
    // A node that the request names need not be of the best.
    if (active.routing.node !== null && active.attempts === 0) return all;
    // A new request avoids nobody and has no numerics id yet: its list is the cached one.
    const fresh = active.avoided.size === 0 ? all : all.filter(({ socket }) => !active.avoided.has(socket));
    const able = fresh.length > 0 || when === 'now' ? fresh : all;
    const { numericsId } = active;
    const alike = numericsId === null ? able : preferred(able, ({ card }) => card.numericsId === numericsId);
    return this.nodes.prefillers(active.model).length === 0 ? alike : this.#decodersOf(alike);
  }

  /** Whether another node could go on with the request. */
  elsewhere(active: ActiveRequest): boolean {
    const { current, avoided } = active;
    return this.#all(active).some(({ socket }) => socket !== current?.socket && !avoided.has(socket));
  }

  /** Why no node takes the request, for its client. */
  refusal(
    kind: Exclude<Route<Candidate>['kind'], 'chosen'>,
    { model, request, lora, routing: { node, rank } }: ActiveRequest,
  ): ApiError {
    switch (kind) {
      case 'nobody':
        return this.#nobody(model, request, lora);
      case 'absent': {
        const adapter = lora === null ? '' : `, does not have the LoRA adapter '${lora.name}'`;
        const which = [node === null ? 'A node' : `Node ${node}`, ...(rank === null ? [] : [`with rank ${rank}`])].join(
          ' ',
        );
        const message = `${which} is not ready to compute ${model}${adapter}, or does not hold ${sequenceLength(request)} tokens. GET /cluster/state lists the nodes; leave the name out to let the router choose.`;
        return unavailable(message, 'node_not_ready');
      }
      case 'unnamed':
        return badRequest(
          "This hub runs with --router-mode direct: name the node in the header 'x-quire-node' or in 'nvext.backend_instance_id'. GET /cluster/state lists the nodes.",
          'nvext.backend_instance_id',
          'node_unnamed',
        );
    }
  }

  #all({ model, request, lora }: ActiveRequest): readonly NodeCandidate[] {
    const length = sequenceLength(request);
    const { candidates, shortest } = this.#listed(this.nodes.ready(model));
    const long = length <= shortest ? candidates : candidates.filter(({ card }) => card.maxModelLen >= length);
    const able = lora === null ? long : long.filter(({ socket }) => socket.loras.has(lora));
    return request.embeds === undefined ? able : able.filter(({ socket }) => hasRoom(socket, request));
  }

  /** What was made of a list of ready nodes, which is the same one until a node changes. */
  #listed(ready: readonly NodeSocket[]): Listed {
    let listed = this.#lists.get(ready);
    if (listed === undefined) {
      const candidates = ready.flatMap(ranksOf);
      const shortest = candidates.reduce(
        (least, { card }) => Math.min(least, card.maxModelLen),
        Number.POSITIVE_INFINITY,
      );
      listed = { candidates, shortest };
      this.#lists.set(ready, listed);
    }
    return listed;
  }

  /** Those of role `decode`, or all where there are none: looked for once in a list that many requests share. */
  #decodersOf(candidates: readonly NodeCandidate[]): readonly NodeCandidate[] {
    let decoders = this.#decoders.get(candidates);
    if (decoders === undefined) {
      decoders = preferred(candidates, ({ card }) => card.role === 'decode');
      this.#decoders.set(candidates, decoders);
    }
    return decoders;
  }

  #nobody(model: string, request: GenerateRequest, lora: LoraId | null): ApiError {
    const ready = this.nodes.ready(model);
    if (ready.length === 0 && this.asleep(model)) {
      const message = `${model} sleeps: all nodes that could compute it were told to. Whoever runs this hub wakes them with POST /wake_up; send the request again then.`;
      return unavailable(message, 'asleep', 5);
    }
    if (ready.length === 0) {
      const which = this.nodes.prefillers(model).length > 0 ? 'Only prefill nodes are ready' : 'No node is ready';
      const message = `${which} to compute ${model}. Open the hub's page in a browser with WebGPU to lend one, then try again.`;
      return unavailable(message, 'no_node_ready', 5);
    }
    if (lora !== null && !ready.some((socket) => socket.loras.has(lora))) {
      const why = ready.map((socket) => socket.loras.failure(lora)).find((failure) => failure !== null);
      const rest = why === undefined ? 'They load it now: try again soon.' : `One says: ${why}`;
      return unavailable(`No ready node has the LoRA adapter '${lora.name}'. ${rest}`, 'lora_not_ready', 5);
    }
    if (!ready.some((socket) => hasRoom(socket, request))) {
      const message =
        'The nodes still read what was sent to them before, and have no room for these embeddings. Try again.';
      return unavailable(message, 'overloaded');
    }
    const longest = Math.max(...ready.map((socket) => socket.card?.maxModelLen ?? 0));
    return badRequest(
      `This request needs ${sequenceLength(request)} tokens (prompt and output), but no node holds more than ${longest}.`,
      'max_tokens',
      'context_length_exceeded',
    );
  }
}

/** All ranks of a registered node. */
export function ranksOf(socket: NodeSocket): NodeCandidate[] {
  const { id, card } = socket;
  if (card === null) return [];
  return Array.from({ length: card.dpSize }, (_, i) => ({ id, rank: card.dpRank + i, card, socket }));
}

/** Those that `wanted` likes, or all where it likes none. */
function preferred(
  nodes: readonly NodeCandidate[],
  wanted: (node: NodeCandidate) => boolean,
): readonly NodeCandidate[] {
  const liked = nodes.filter(wanted);
  return liked.length > 0 ? liked : nodes;
}

/** Longest that a sequence of the request can get, tokens. */
export function sequenceLength({ prompt, sampling, pooling }: GenerateRequest): number {
  return prompt.length + (pooling === undefined ? sampling.maxTokens : 0);
}

/** What other messages may take beside embeddings, bytes. */
const SMALL_MESSAGES = 1 << 20;

/** Whether a node has read enough to be sent the request: embeddings are the one thing in it that is long. */
function hasRoom(socket: NodeSocket, { embeds }: GenerateRequest): boolean {
  return embeds === undefined || embeds.data.length + SMALL_MESSAGES <= socket.room;
}
