import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest } from '../../protocol/generate.ts';
import type { HealthCheckConfig } from '../config.ts';
import type { Failure, NodeSocket } from '../node-socket.ts';
import type { AttemptFrame } from '../token-log.ts';

export interface HealthChecksOptions {
  readonly config: HealthCheckConfig;
  readonly clock: Clock;
  readonly sockets: () => Iterable<NodeSocket>;
  /** Whether the hub has work on the node, or its own word says that something waits there. */
  readonly busy: () => (socket: NodeSocket) => boolean;
  /** What a probe computes, all but its request id. */
  readonly payload: (model: string) => Omit<GenerateRequest, 'request'>;
  readonly log: Logger;
}

interface Probe {
  readonly request: string;
  readonly stopTimer: () => void;
}

interface Watched {
  /** Probes so far. */
  probes: number;
  /** When the node was last seen at work, or probed. */
  at: number;
  probe: Probe | null;
}

const TICK_MS = 1000;

/** Probes idle nodes through the whole path (rules H1 to H4): who does not answer right leaves discovery until it does. */
export class HealthChecks {
  readonly #watched = new Map<NodeSocket, Watched>();
  readonly #options: HealthChecksOptions;
  #stopTimer: () => void = () => {};

  constructor(options: HealthChecksOptions) {
    this.#options = options;
    this.#tick();
  }

  stop(): void {
    this.#stopTimer();
    for (const { probe } of this.#watched.values()) probe?.stopTimer();
    this.#watched.clear();
  }

  /** Frames of a node, those of probes among them. */
  tokens(socket: NodeSocket, frames: readonly AttemptFrame[]): void {
    const watched = this.#watched.get(socket);
    if (watched === undefined) return;
    watched.at = this.#options.clock.now();
    const { probe } = watched;
    if (probe === null) return;
    if (frames.some(({ request, finish }) => request === probe.request && finish !== undefined))
      this.#over(socket, watched, null);
  }

  failed(socket: NodeSocket, { request, code, message }: Failure): void {
    const watched = this.#watched.get(socket);
    if (watched?.probe?.request !== request) return;
    // A node that has too much to do, or leaves, is not ill for it.
    if (code === 'overloaded') this.#end(watched);
    else this.#over(socket, watched, `a health check failed: ${message}`);
  }

  lost(socket: NodeSocket): void {
    const watched = this.#watched.get(socket);
    if (watched !== undefined) this.#end(watched);
    this.#watched.delete(socket);
  }

  #tick(): void {
    const { clock, sockets, busy, config } = this.#options;
    this.#stopTimer = clock.after(Math.min(TICK_MS, config.waitMs), () => {
      const isBusy = busy();
      for (const socket of sockets())
        if (socket.state === 'ready' && !socket.resting) this.#look(socket, isBusy(socket));
      this.#tick();
    });
  }

  #look(socket: NodeSocket, busy: boolean): void {
    const now = this.#options.clock.now();
    const known = this.#watched.get(socket);
    if (known === undefined) this.#watched.set(socket, { at: now, probe: null, probes: 0 });
    else if (known.probe !== null) return;
    else if (busy) known.at = now;
    else if (now - known.at >= this.#options.config.waitMs) this.#probe(socket, known);
  }

  #probe(socket: NodeSocket, watched: Watched): void {
    const { clock, config, payload } = this.#options;
    const request = `canary-${randomUUID()}`;
    const began = clock.now();
    watched.at = began;
    const stopTimer = clock.after(config.timeoutMs, () => {
      socket.send({ type: 'cancel', request, attempt: 0 });
      // Tokens of other requests that came meanwhile say the same as the probe would.
      const alive = watched.at > began;
      this.#over(socket, watched, alive ? null : `no answer to a health check within ${config.timeoutMs / 1000} s`);
    });
    watched.probe = { request, stopTimer };
    // Its ranks in turn.
    const { dpRank = 0, dpSize = 1 } = socket.card ?? {};
    const rank = dpRank + (watched.probes++ % dpSize);
    socket.send({ type: 'generate', attempt: 0, rank, generate: { request, ...payload(socket.model) } });
  }

  #over(socket: NodeSocket, watched: Watched, ill: string | null): void {
    this.#end(watched);
    if (ill === socket.ill) return;
    if (ill !== null) this.#options.log.warn({ node: socket.id }, `a node leaves discovery: ${ill}`);
    else this.#options.log.info({ node: socket.id }, 'a node passes its health check again');
    socket.setIll(ill);
  }

  #end(watched: Watched): void {
    watched.probe?.stopTimer();
    watched.probe = null;
    watched.at = this.#options.clock.now();
  }
}
