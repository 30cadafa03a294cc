import type { GenerateRequest, Thought } from '../protocol/generate.ts';

const NO_THOUGHT: Thought = { begun: false, starts: [], ends: [] };

type Mask = Uint32Array<ArrayBuffer>;

/**
 * Which part of an answer the next token is of: `first`, either reasoning or the grammar, by the token that comes; `thought`, reasoning, which is free;
 * `grammar`; `over`, free text after it.
 */
type Phase = 'first' | 'thought' | 'grammar' | 'over';

/** When a sequence ends, as its slot on the GPU knows it. */
export interface StopRules {
  /** Ids at which the GPU samples no further. */
  readonly ids: readonly number[];
  /** How many of them, from the first on, are not sampled at all before `minTokens`. */
  readonly barred: number;
  /** Tokens of the choice. */
  readonly minTokens: number;
}

/** Whether the GPU samples no further after `token`, which comes after `generated` others of the choice. */
export function endsAt({ ids, barred, minTokens }: StopRules, token: number, generated: number): boolean {
  const at = ids.indexOf(token);
  return at >= barred || (at >= 0 && generated >= minTokens);
}

/** Where one sequence under a grammar is: what may come next, and what its tokens make of that. */
export class Constraint {
  /** The ids that the grammar allows next; null until that is known, and once a step samples by it. */
  mask: Mask | null = null;
  /** Tokens of the grammar so far. */
  length = 0;
  #phase: Phase;
  /** The grammar's first mask, while a step samples by it. */
  #first: Mask | null = null;
  readonly #thought: Thought;
  readonly #ends: readonly number[];
  readonly #stopIds: readonly number[];
  readonly #minTokens: number;

  constructor(
    { thought = NO_THOUGHT, grammarEnds = [], sampling }: Pick<GenerateRequest, 'thought' | 'grammarEnds' | 'sampling'>,
    generated: readonly number[],
  ) {
    this.#thought = thought;
    this.#ends = grammarEnds;
    this.#stopIds = sampling.stopIds;
    this.#minTokens = sampling.minTokens;
    this.#phase = thought.begun ? 'thought' : thought.starts.length > 0 ? 'first' : 'grammar';
    for (const token of generated) this.follow(token);
  }

  /** Its next sample needs a mask. */
  get masked(): boolean {
    return this.#phase === 'first' || this.#phase === 'grammar';
  }

  /** The grammar has ended, and the choice goes on. */
  get over(): boolean {
    return this.#phase === 'over';
  }

  /** What may come next is known. Before reasoning too the grammar's first mask must be: one that nobody can match fails before the answer begins. */
  get ready(): boolean {
    return this.over || this.mask !== null;
  }

  /** No stop id comes within reasoning; the mask holds them back in the grammar, and a mark ends reasoning at any time. */
  get stops(): StopRules {
    if (this.#phase !== 'thought') return { ids: this.#stopIds, barred: 0, minTokens: 0 };
    const { ends } = this.#thought;
    const barred = this.#stopIds.filter((id) => !ends.includes(id));
    return { ids: [...barred, ...ends], barred: barred.length, minTokens: Number.POSITIVE_INFINITY };
  }

  /** The mask of the sample after `generated` tokens of the choice, once; null where it is free. */
  take(generated: number): Mask | null {
    const { mask } = this;
    if (mask === null || !this.masked) return null;
    this.mask = null;
    let allowed = mask;
    if (this.#phase === 'first') {
      this.#first = mask;
      allowed = mask.slice();
      for (const id of this.#thought.starts) allowed[id >>> 5]! |= 1 << (id & 31);
    }
    if (generated >= this.#minTokens) return allowed;
    const longer = allowed.slice();
    for (const id of this.#stopIds) longer[id >>> 5]! &= ~(1 << (id & 31));
    return longer.some((word) => word !== 0) ? longer : allowed;
  }

  /** Takes the next token. Whether `stops` are others from here on. */
  follow(token: number): boolean {
    switch (this.#phase) {
      case 'first':
        if (!this.#thought.starts.includes(token)) return this.#grow(token);
        this.#phase = 'thought';
        this.mask = this.#first;
        this.#first = null;
        return true;
      case 'thought':
        if (!this.#thought.ends.includes(token)) return false;
        this.#phase = 'grammar';
        return true;
      case 'grammar':
        return this.#grow(token);
      case 'over':
        return false;
    }
  }

  #grow(token: number): boolean {
    this.#phase = this.#ends.includes(token) ? 'over' : 'grammar';
    if (this.#phase === 'grammar') this.length++;
    return false;
  }
}
