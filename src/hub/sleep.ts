import type { Logger } from 'pino';
import { ApiError, unavailable } from '../frontend/errors.ts';
import type { Clock } from '../protocol/clock.ts';
import type { SleepLevel } from '../protocol/messages.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { NodeSocket } from './node-socket.ts';
import type { Registry } from './registry.ts';

/** How nodes shall fall asleep. `wait`: when their requests have ended, or their time is over; `abort`: at once. */
export interface SleepOrder {
  readonly level: SleepLevel;
  readonly mode: 'wait' | 'abort';
}

/** What became of a node that was told to sleep or to wake up. `detail` is what it says of itself. */
export interface NodeReport {
  readonly id: string;
  readonly stage: string;
  readonly detail: string;
}

export interface SleepControlOptions {
  readonly registry: Pick<Registry, 'sockets' | 'remembers'>;
  readonly dispatcher: Pick<Dispatcher, 'runsOn' | 'moveAway'>;
  readonly clock: Clock;
  /** How long running requests may go on before a node falls asleep. */
  readonly finishMs: number;
  readonly log: Logger;
}

/** Longest that an answer waits for nodes that wake up. */
const WAKE_MS = 900_000;

/**
 * Which nodes shall sleep, and who brings them there: what is wanted is written down, and each change of a node is held against it (S rules).
 * So nodes that join, come back or start anew do what the others do.
 */
export class SleepControl {
  /** For all nodes without an order of their own. */
  #all: SleepOrder | null = null;
  /** By node id; null = it shall be awake though the others sleep. */
  readonly #named = new Map<string, SleepOrder | null>();
  /** Nodes whose requests may end first, each with how to stop its timer. */
  readonly #finishing = new Map<NodeSocket, () => void>();
  /** Nodes that were sent `wake` since they fell asleep. */
  readonly #waking = new WeakSet<NodeSocket>();
  readonly #options: SleepControlOptions;
  /** Who waits for nodes: looks again after each change. */
  #waiting: (() => void)[] = [];
  #stopped = false;

  constructor(options: SleepControlOptions) {
    this.#options = options;
  }

  /** Resolves when all of them sleep, or are gone. Throws `ApiError`: no such node, or they were told to wake up meanwhile. */
  async sleep(order: SleepOrder, node: string | null): Promise<NodeReport[]> {
    const targets = this.#targets(node).filter(({ state }) => state === 'ready');
    this.#want(order, node);
    this.#options.log.info({ ...order, node, nodes: targets.length }, 'nodes are put to sleep');
    if (order.mode === 'abort')
      for (const socket of targets) if (this.#finishing.has(socket)) this.#tellToSleep(socket);
    const wanted = () => targets.every((socket) => socket.state !== 'ready' || this.#wanted(socket) !== null);
    await this.#until(() => targets.every(({ state }) => state !== 'ready'), wanted, 'told to wake up');
    return targets.map(report);
  }

  /** Resolves when all of them serve again, or are gone. Throws `ApiError`: no such node, or they were told to sleep meanwhile, or take too long. */
  async wake(node: string | null): Promise<NodeReport[]> {
    const targets = this.#targets(node).filter(({ stage, resting }) => stage === 'asleep' || resting);
    this.#want(null, node);
    this.#options.log.info({ node, nodes: targets.length }, 'nodes wake up');
    let late = false;
    const stopTimer = this.#options.clock.after(WAKE_MS, () => {
      late = true;
      this.#look();
    });
    const awake = (socket: NodeSocket) => (socket.state === 'ready' ? !socket.resting : socket.state !== 'greeted');
    const wanted = () => {
      if (late)
        throw new ApiError(
          504,
          'timeout_error',
          `Not all nodes woke up within ${WAKE_MS / 60_000} minutes. GET /cluster/state says what they do.`,
        );
      return targets.every((socket) => awake(socket) || this.#wanted(socket) === null);
    };
    try {
      await this.#until(() => targets.every(awake), wanted, 'told to sleep');
    } finally {
      stopTimer();
    }
    return targets.map(report);
  }

  /** Of a node: whether it sleeps. Of all (null): whether none serves because they sleep, or shall once they come. */
  isSleeping(node: string | null): boolean {
    const targets = this.#targets(node);
    if (node !== null) return targets.every(({ stage }) => stage === 'asleep');
    const some = this.#all !== null || targets.some(({ stage }) => stage === 'asleep');
    return some && targets.every(({ state }) => state !== 'ready');
  }

  /** Whether nodes of the model sleep, or fall asleep, or would. */
  covers(model: string): boolean {
    if (this.#all !== null) return true;
    return this.#options.registry
      .sockets()
      .some((socket) => socket.model === model && (socket.stage === 'asleep' || socket.resting));
  }

  /** A node came, went or changed its stage. */
  look(socket: NodeSocket): void {
    const sleeps = this.#wanted(socket) !== null;
    if (socket.state !== 'ready') this.#stopFinishing(socket);
    else if (sleeps && !socket.resting) this.#rest(socket);
    else if (!sleeps && this.#stopFinishing(socket)) socket.setResting(false);
    if (socket.stage !== 'asleep') this.#waking.delete(socket);
    else if (!sleeps && socket.state === 'greeted' && !this.#waking.has(socket)) {
      this.#waking.add(socket);
      socket.send({ type: 'wake' });
    }
    this.#look();
  }

  /** A request has left the node. */
  left(socket: NodeSocket): void {
    if (this.#finishing.has(socket) && !this.#options.dispatcher.runsOn(socket)) this.#tellToSleep(socket);
  }

  /** The hub ends: nobody waits any more. */
  stop(): void {
    this.#stopped = true;
    for (const stopTimer of this.#finishing.values()) stopTimer();
    this.#finishing.clear();
    this.#look();
  }

  #targets(node: string | null): NodeSocket[] {
    const sockets = this.#options.registry.sockets();
    if (node === null) return sockets;
    const named = sockets.filter(({ id }) => id === node);
    if (named.length > 0) return named;
    const message = `There is no node ${node.slice(0, 100)} here. GET /cluster/state lists the nodes.`;
    throw new ApiError(404, 'not_found_error', message, { code: 'node_not_found', param: 'node' });
  }

  #want(order: SleepOrder | null, node: string | null): void {
    const { registry } = this.#options;
    if (node === null) {
      this.#all = order;
      this.#named.clear();
    } else {
      // Orders outlive connections, but not the ids that they name.
      for (const id of this.#named.keys()) if (!registry.remembers(id)) this.#named.delete(id);
      this.#named.set(node, order);
    }
    for (const socket of registry.sockets()) this.look(socket);
  }

  #wanted({ id }: NodeSocket): SleepOrder | null {
    const named = this.#named.get(id);
    return named === undefined ? this.#all : named;
  }

  #rest(socket: NodeSocket): void {
    const { clock, dispatcher, finishMs } = this.#options;
    const ms = this.#wanted(socket)?.mode === 'abort' ? 0 : finishMs;
    this.#finishing.set(
      socket,
      clock.after(ms, () => this.#tellToSleep(socket)),
    );
    socket.setResting(true);
    if (ms === 0 || !dispatcher.runsOn(socket)) this.#tellToSleep(socket);
  }

  #tellToSleep(socket: NodeSocket): void {
    const order = this.#wanted(socket);
    if (!this.#stopFinishing(socket) || order === null) return;
    this.#options.dispatcher.moveAway(socket);
    socket.send({ type: 'sleep', level: order.level });
  }

  /** Whether it was finishing its requests. */
  #stopFinishing(socket: NodeSocket): boolean {
    this.#finishing.get(socket)?.();
    return this.#finishing.delete(socket);
  }

  #look(): void {
    for (const look of this.#waiting.splice(0)) look();
  }

  async #until(done: () => boolean, wanted: () => boolean, otherwise: string): Promise<void> {
    const stopped = () => {
      if (this.#stopped) throw unavailable('The hub stops.', 'hub_stopping');
      return false;
    };
    while (stopped() || !done()) {
      if (!wanted()) {
        const message = `The nodes were ${otherwise} before they were there.`;
        throw new ApiError(409, 'invalid_request_error', message, { code: 'conflict' });
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }
}

function report({ id, stage, detail, state }: NodeSocket): NodeReport {
  return { id, stage: state === 'closed' ? 'gone' : stage, detail };
}
