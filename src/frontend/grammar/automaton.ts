import { type CharSet, GrammarError, type Node } from './ebnf.ts';

/** States of one pattern with its repetitions written out, and pairs of them that are looked at. */
const MAX_STATES = 2000;
const MAX_PAIRS = 200_000;

/** Which texts a pattern matches: a nondeterministic automaton without empty moves but those that `closure` has taken. */
export interface Automaton {
  readonly start: readonly number[];
  /** Moves of each state. */
  readonly moves: readonly (readonly { readonly chars: CharSet; readonly to: readonly number[] }[])[];
  readonly accepts: ReadonlySet<number>;
}

/** The automaton of a node without rules (Thompson, "Regular expression search algorithm", 1968). Throws `GrammarError` where it would be too large. */
export function automatonOf(node: Node): Automaton {
  const empty: number[][] = [];
  const moves: { chars: CharSet; to: number }[][] = [];
  const state = () => {
    if (empty.length >= MAX_STATES)
      throw new GrammarError(`a pattern of property names has more than ${MAX_STATES} states. Lower its repetitions`);
    moves.push([]);
    return empty.push([]) - 1;
  };
  /** From a state on; returns where the node ends. */
  const add = (part: Node, from: number): number => {
    switch (part.kind) {
      case 'text':
        return [...part.text].reduce((at, char) => {
          const code = char.codePointAt(0)!;
          return add({ kind: 'set', set: [[code, code]] }, at);
        }, from);
      case 'set': {
        const to = state();
        moves[from]!.push({ chars: part.set, to });
        return to;
      }
      case 'sequence':
        return part.parts.reduce((at, each) => add(each, at), from);
      case 'choice': {
        const ends = part.parts.map((each) => add(each, fresh(from)));
        const to = state();
        for (const end of ends) empty[end]!.push(to);
        return to;
      }
      case 'repeat': {
        let at = from;
        for (let i = 0; i < part.least; i++) at = add(part.part, at);
        const to = state();
        if (part.most === null) {
          const loop = fresh(at);
          empty[add(part.part, loop)]!.push(loop);
          empty[loop]!.push(to);
        } else {
          for (let i = part.least; i < part.most; i++) {
            empty[at]!.push(to);
            at = add(part.part, at);
          }
          empty[at]!.push(to);
        }
        return to;
      }
      case 'rule':
        throw new GrammarError('a pattern of property names refers to a rule');
    }
  };
  const fresh = (from: number) => {
    const to = state();
    empty[from]!.push(to);
    return to;
  };
  const start = state();
  const end = add(node, start);
  const closures = empty.map((_, at) => closure(empty, at));
  return {
    start: closures[start]!,
    moves: moves.map((each) => each.map(({ chars, to }) => ({ chars, to: closures[to]! }))),
    accepts: new Set([end]),
  };
}

function closure(empty: readonly (readonly number[])[], at: number): number[] {
  const seen = new Set([at]);
  for (const each of seen) for (const next of empty[each]!) seen.add(next);
  return [...seen];
}

/** Whether some text is matched by both. Throws `GrammarError` where that takes too long to tell. */
export function overlap(a: Automaton, b: Automaton): boolean {
  const width = b.moves.length;
  const seen = new Set<number>();
  const meet = (left: readonly number[], right: readonly number[]) => {
    for (const x of left) for (const y of right) seen.add(x * width + y);
  };
  meet(a.start, b.start);
  for (const pair of seen) {
    const [x, y] = [Math.floor(pair / width), pair % width];
    if (a.accepts.has(x) && b.accepts.has(y)) return true;
    for (const { chars, to } of a.moves[x]!)
      for (const other of b.moves[y]!) if (meets(chars, other.chars)) meet(to, other.to);
    if (seen.size > MAX_PAIRS)
      throw new GrammarError('patterns of property names take too long to tell apart. Make them smaller');
  }
  return false;
}

const meets = (a: CharSet, b: CharSet) =>
  a.some(([first, last]) => b.some(([from, to]) => first <= to && from <= last));
