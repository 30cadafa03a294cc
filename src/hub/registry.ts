import { randomUUID } from 'node:crypto';
import type { Clock } from '../protocol/clock.ts';
import { CLOSE } from '../protocol/close-codes.ts';
import type { ClusterNode } from '../protocol/cluster-state.ts';
import { type Card, type Load, type ModelOffer, VERSIONS } from '../protocol/messages.ts';
import type { ReadyNodes } from './candidates.ts';
import type { HubConfig } from './config.ts';
import type { LoraDesk } from './lora/lora-desk.ts';
import { modelFor, type OfferedModel } from './model-choice.ts';
import type { Hello, NodeDesk, NodeSocket, Refusal, Welcome } from './node-socket.ts';
import { newSecret, sameSecret } from './ticket.ts';

/** What a node that comes back must know, and what it gets back. */
interface Identity {
  readonly token: string;
  readonly model: string;
  epoch: number;
  /** When its last socket closed; null while one is open. */
  leftAt: number | null;
  /** The prefix caches were reset while it was not registered: its own waits until it is (rule K12). */
  resetDue: boolean;
}

/** Most nodes that left and may still come back under their old id. */
const MAX_REMEMBERED = 4096;
/** Who left is looked through at most so often, since thousands may join at once. */
const FORGET_MS = 1000;

/** The nodes of the cluster. Discovery is the open sockets: closing is leaving. */
export class Registry implements NodeDesk, ReadyNodes {
  readonly #sockets = new Map<string, NodeSocket>();
  readonly #identities = new Map<string, Identity>();
  readonly #listeners = new Set<(socket: NodeSocket) => void>();
  readonly #loadListeners = new Set<(node: string, load: Load) => void>();
  #forgotAt = Number.NEGATIVE_INFINITY;
  /** By model, as of the last change: every request asks, and there may be thousands. */
  readonly #ready = new Map<
    string,
    { readonly answer: readonly NodeSocket[]; readonly prefill: readonly NodeSocket[] }
  >();

  constructor(
    private readonly config: HubConfig,
    private readonly models: readonly OfferedModel[],
    private readonly clock: Clock,
    private readonly loras: Pick<LoraDesk, 'revision' | 'offers' | 'possible'>,
  ) {}

  greet(hello: Hello, socket: NodeSocket): Welcome | Refusal {
    const version = VERSIONS.find((v) => hello.versions.includes(v));
    if (version === undefined) {
      const message = `this hub speaks ${VERSIONS.join(', ')}; the node offered ${hello.versions.join(', ') || 'nothing'}`;
      return { close: CLOSE.version, code: 'version', message };
    }
    const { joinToken } = this.config;
    if (joinToken !== null && !sameSecret(hello.ticket ?? '', joinToken)) {
      const message = 'the join token is missing or wrong; open the join link that the hub printed';
      return { close: CLOSE.ticket, code: 'ticket', message };
    }
    const id = this.#known(hello) ?? this.#newIdentity(hello);
    const identity = this.#identities.get(id)!;
    this.#sockets
      .get(id)
      ?.refuse({ close: CLOSE.replaced, code: 'protocol', message: 'the node came back on another socket' });
    identity.epoch += 1;
    identity.leftAt = null;
    this.#sockets.set(id, socket);
    return {
      type: 'welcome',
      version,
      node: id,
      resumeToken: identity.token,
      epoch: identity.epoch,
      model: this.#offer(identity.model)!,
      blockSize: this.config.blockSize,
      hashAlgo: this.config.hashAlgo,
      options: this.config.nodeOptions,
      // A request fails with the socket it ran on, so none outlives it.
      live: [],
    };
  }

  accept(card: Card, socket: NodeSocket): Refusal | null {
    const offer = this.#offer(socket.model);
    const differs = (what: string, theirs: unknown, ours: unknown): Refusal => ({
      close: CLOSE.model,
      code: 'model',
      message: `${what} is ${theirs} on the node and ${ours} on the hub; reload the page to load the hub's model`,
    });
    if (card.fingerprint !== offer?.fingerprint) return differs('fingerprint', card.fingerprint, offer?.fingerprint);
    if (card.blockSize !== this.config.blockSize) return differs('block size', card.blockSize, this.config.blockSize);
    if (card.hashAlgo !== this.config.hashAlgo) return differs('hash algorithm', card.hashAlgo, this.config.hashAlgo);
    return null;
  }

  left(socket: NodeSocket): void {
    // A node that came back has another socket by now: that one is its own.
    if (this.#sockets.get(socket.id) === socket) {
      this.#sockets.delete(socket.id);
      const identity = this.#identities.get(socket.id);
      if (identity !== undefined) identity.leftAt = this.clock.now();
    }
    this.changed(socket);
  }

  changed(socket: NodeSocket): void {
    this.#ready.clear();
    if (socket.state === 'ready') {
      this.#resetIfDue(socket);
      this.#tellLoras(socket);
    }
    for (const listener of this.#listeners) listener(socket);
  }

  /** Calls `listener` after each change of a node's stage, and when nodes come and go. Returns how to stop it. */
  onChange(listener: (socket: NodeSocket) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  loaded(socket: NodeSocket, load: Load): void {
    for (const listener of this.#loadListeners) listener(socket.id, load);
  }

  /** Calls `listener` with each load that a node tells. Returns how to stop it. */
  onLoad(listener: (node: string, load: Load) => void): () => void {
    this.#loadListeners.add(listener);
    return () => this.#loadListeners.delete(listener);
  }

  /** Nodes that compute answers with the model (served name), in order of joining. The same list until a node changes. */
  ready(model: string): readonly NodeSocket[] {
    return this.#byRole(model).answer;
  }

  /** Nodes that compute prompts for others, in order of joining. */
  prefillers(model: string): readonly NodeSocket[] {
    return this.#byRole(model).prefill;
  }

  #byRole(model: string) {
    let known = this.#ready.get(model);
    if (known === undefined) {
      const ready = this.sockets().filter(
        ({ state, model: own, ill, resting }) => state === 'ready' && own === model && ill === null && !resting,
      );
      const prefill = ready.filter(({ card }) => card?.role === 'prefill');
      known = { answer: ready.filter(({ card }) => card?.role !== 'prefill'), prefill };
      this.#ready.set(model, known);
    }
    return known;
  }

  /** All nodes forget their prefix caches: those that are not registered once they are. Returns how many do now. */
  resetPrefixCaches(): number {
    for (const identity of this.#identities.values()) identity.resetDue = true;
    const able = this.sockets().filter(({ state }) => state === 'ready' || state === 'draining');
    for (const socket of able) this.#resetIfDue(socket);
    return able.length;
  }

  /** The LoRA adapters changed: all ready nodes are told which they shall have now (rule A2). */
  lorasChanged(): void {
    for (const socket of this.sockets()) if (socket.state === 'ready') this.#tellLoras(socket);
  }

  #tellLoras(socket: NodeSocket): void {
    const { revision, possible } = this.loras;
    if (!possible || socket.loras.knows(revision)) return;
    const adapters = this.loras.offers(socket.model);
    socket.loras.tell(revision, adapters);
    socket.send({ type: 'loras', revision, adapters });
  }

  #resetIfDue(socket: NodeSocket): void {
    const identity = this.#identities.get(socket.id);
    if (!identity?.resetDue) return;
    identity.resetDue = false;
    socket.send({ type: 'reset_prefix_cache' });
  }

  /** Whether the node is connected. */
  has(id: string): boolean {
    return this.#sockets.has(id);
  }

  /** Whether the node is connected, and this is its resume token. */
  isNode(id: string, token: string): boolean {
    const identity = this.#identities.get(id);
    return identity !== undefined && this.has(id) && sameSecret(identity.token, token);
  }

  /** Whether the id is that of a node that is connected, or may come back under it. */
  remembers(id: string): boolean {
    return this.#identities.has(id);
  }

  sockets(): NodeSocket[] {
    return [...this.#sockets.values()];
  }

  #known(hello: Hello): string | null {
    const { resume } = hello;
    if (resume === undefined) return null;
    const identity = this.#identities.get(resume.node);
    return identity !== undefined && sameSecret(identity.token, resume.token) ? resume.node : null;
  }

  #offer(name: string): ModelOffer | undefined {
    return this.models.find(({ offer }) => offer.name === name)?.offer;
  }

  #newIdentity(hello: Hello): string {
    this.#forgetOld();
    const id = randomUUID();
    this.#identities.set(id, {
      token: newSecret(),
      model: this.#modelFor(hello),
      epoch: 0,
      leftAt: null,
      resetDue: false,
    });
    return id;
  }

  #modelFor({ room, query, loaded }: Hello): string {
    const [first, ...others] = this.models;
    if (first === undefined) throw new Error('a hub has a model');
    if (others.length === 0) return first.offer.name;
    const same = this.models.find(({ offer }) => offer.fingerprint === loaded);
    if (same !== undefined) return same.offer.name;
    const held = new Set(this.sockets().map(({ model }) => model));
    const page = { room: room ?? null, query: query ?? '' };
    return modelFor([first, ...others], page, held, this.config.nodeOptions).offer.name;
  }

  #forgetOld(): void {
    const now = this.clock.now();
    if (now - this.#forgotAt < FORGET_MS) return;
    this.#forgotAt = now;
    let away = 0;
    for (const identity of this.#identities.values()) if (identity.leftAt !== null) away += 1;
    for (const [id, identity] of this.#identities) {
      if (identity.leftAt === null) continue;
      if (away <= MAX_REMEMBERED && now - identity.leftAt < this.config.limits.resumeMs) continue;
      this.#identities.delete(id);
      away -= 1;
    }
  }
}

/** What everybody may see of a node. */
export function describeNode(socket: NodeSocket, active: { requests: number; sequences: number }): ClusterNode {
  const ranks = [...socket.kv.values()];
  return {
    id: socket.id,
    stage: socket.stage,
    detail: socket.detail,
    unhealthy: socket.ill,
    loadedBytes: socket.loadedBytes,
    totalBytes: socket.totalBytes,
    agent: socket.agent,
    joinedAt: socket.joinedAt,
    model: socket.model,
    card: socket.card,
    loads: [...socket.loads.values()].sort((a, b) => a.rank - b.rank),
    activeRequests: active.requests,
    activeSequences: active.sequences,
    loras: socket.loras.names,
    kvEvents: {
      count: ranks.reduce((sum, { ledger }) => sum + ledger.lastEventId, 0),
      gaps: ranks.reduce((sum, { ledger }) => sum + ledger.gaps, 0),
    },
  };
}
