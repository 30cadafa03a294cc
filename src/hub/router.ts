import type { GenerateRequest } from '../protocol/generate.ts';
import type { Card } from '../protocol/messages.ts';

/** A ready node of the request's model, as a router sees it. */
export interface Candidate {
  readonly id: string;
  readonly card: Card;
}

/** Chooses the node of a request. Loads are the hub's own count, so that a burst does not herd onto one node. */
export interface Router {
  /** null only where there is no candidate. */
  choose<C extends Candidate>(request: GenerateRequest, candidates: readonly C[]): C | null;
  /** The request now is the node's. */
  added(node: string, request: GenerateRequest): void;
  /** The request left the node: finished, failed or cancelled. */
  freed(node: string, request: GenerateRequest): void;
  /** The node left. */
  forget(node: string): void;
  /** Sequences that the node has now. */
  sequences(node: string): number;
}

/** Software adapters serve only while no hardware node of the model is ready. */
function preferHardware<C extends Candidate>(candidates: readonly C[]): readonly C[] {
  const hardware = candidates.filter((candidate) => !candidate.card.adapter.software);
  return hardware.length > 0 ? hardware : candidates;
}

/** Takes the node with the fewest sequences for its size; among equals the one that waits longest for a request. */
export class LeastLoadedRouter implements Router {
  readonly #sequences = new Map<string, number>();
  readonly #lastChosen = new Map<string, number>();
  #choices = 0;

  choose<C extends Candidate>(_request: GenerateRequest, candidates: readonly C[]): C | null {
    let best: C | null = null;
    for (const candidate of preferHardware(candidates)) {
      if (best === null || this.#before(candidate, best)) best = candidate;
    }
    return best;
  }

  added(node: string, request: GenerateRequest): void {
    this.#sequences.set(node, this.sequences(node) + request.choices.length);
    this.#choices += 1;
    this.#lastChosen.set(node, this.#choices);
  }

  freed(node: string, request: GenerateRequest): void {
    const left = this.sequences(node) - request.choices.length;
    if (left > 0) this.#sequences.set(node, left);
    else this.#sequences.delete(node);
  }

  forget(node: string): void {
    this.#sequences.delete(node);
    this.#lastChosen.delete(node);
  }

  sequences(node: string): number {
    return this.#sequences.get(node) ?? 0;
  }

  #before(a: Candidate, b: Candidate): boolean {
    const difference = this.#load(a) - this.#load(b);
    if (difference !== 0) return difference < 0;
    return (this.#lastChosen.get(a.id) ?? 0) < (this.#lastChosen.get(b.id) ?? 0);
  }

  #load({ id, card }: Candidate): number {
    return this.sequences(id) / Math.max(1, card.maxNumSeqs);
  }
}
