import { afterEach, describe, expect, it } from 'vitest';
import type { EngineError } from '../../../../src/engine/api.ts';
import type { GrammarMatch } from '../../../../src/engine/grammar.ts';
import type { GrammarReply, GrammarRequest, Vocabulary } from '../../../../src/node/grammar/messages.ts';
import { ThreadMatcher } from '../../../../src/node/grammar/thread-matcher.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { startGrammarThread } from '../../../support/grammar-thread.ts';

/** Tokens: 0 ends, 1 is "a", 2 is "b", 3 is "ab". */
const VOCABULARY: Vocabulary = { bytes: new TextEncoder().encode('abab'), ends: Uint32Array.of(0, 1, 2, 4) };
const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A thread that answers when the test says so. */
class ScriptedThread {
  readonly asked: GrammarRequest[] = [];
  ended = false;

  constructor(
    readonly reply: (reply: GrammarReply) => void,
    readonly broken: (why: string) => void,
  ) {}

  post(request: GrammarRequest): void {
    this.asked.push(request);
  }

  end(): void {
    this.ended = true;
  }

  mask(match: number, words: number): void {
    this.reply({ type: 'mask', match, mask: Uint32Array.of(words) });
  }

  types(): string[] {
    return this.asked.map((request) => ('match' in request ? `${request.type} ${request.match}` : request.type));
  }
}

function setup() {
  const clock = new FakeClock();
  const threads: ScriptedThread[] = [];
  const matcher = new ThreadMatcher({
    startThread: (reply, broken) => {
      const thread = new ScriptedThread(reply, broken);
      threads.push(thread);
      return thread;
    },
    vocabulary: async () => VOCABULARY,
    clock,
  });
  const open = (grammar: string, generated: number[] = [], stopIds = [0]) => {
    const told: (number | string)[] = [];
    const match = matcher.open(
      { grammar, generated, stopIds },
      {
        mask: (mask) => told.push(mask[0] as number),
        failed: (error: EngineError) => told.push(`${error.code}: ${error.message}`),
      },
    );
    return { told, match };
  };
  return { clock, threads, matcher, open };
}

describe('a thread that matches grammars', () => {
  it('starts with the first match, is told the vocabulary once, and ends when nobody needed it for a minute', async () => {
    const { clock, threads, open } = setup();
    expect(threads).toHaveLength(0);
    const { match, told } = open('one', [1, 2]);
    await settle();
    expect(threads[0]!.types()).toEqual(['vocabulary']);
    threads[0]!.reply({ type: 'ready' });
    expect(threads[0]!.asked[1]).toEqual({ type: 'open', match: 0, grammar: 'one', tokens: [1, 2], endIds: [0] });
    threads[0]!.mask(0, 6);
    match.accept(1);
    threads[0]!.mask(0, 1);
    expect(told).toEqual([6, 1]);
    match.close();
    match.accept(2);
    expect(threads[0]!.types()).toEqual(['vocabulary', 'open 0', 'accept 0', 'close 0']);
    clock.advance(59_000);
    expect(threads[0]!.ended).toBe(false);
    clock.advance(2000);
    expect(threads[0]!.ended).toBe(true);
    open('two');
    await settle();
    expect(threads).toHaveLength(2);
  });

  it('gives up what takes longer than 10 s, and replays all others on a new thread, each told once', async () => {
    const { clock, threads, open } = setup();
    const told = open('told', [1]);
    const waits = open('waits');
    await settle();
    threads[0]!.reply({ type: 'ready' });
    threads[0]!.mask(0, 2);
    threads[0]!.mask(1, 2);
    waits.match.accept(2);
    const slow = open('slow');
    await settle();
    threads[0]!.mask(1, 4);
    waits.match.accept(1);
    clock.advance(9999);
    expect(slow.told).toEqual([]);
    clock.advance(1);
    expect(slow.told[0]).toContain('invalid_request: The grammar was given up: it took longer than 10 s');
    expect(threads[0]!.ended).toBe(true);
    await settle();
    threads[1]!.reply({ type: 'ready' });
    expect(threads[1]!.types()).toEqual(['vocabulary', 'open 0', 'open 1']);
    expect(threads[1]!.asked[2]).toMatchObject({ tokens: [2, 1] });
    // The old thread is heard no more.
    threads[0]!.mask(1, 9);
    threads[1]!.mask(0, 2);
    threads[1]!.mask(1, 6);
    expect(told.told).toEqual([2]);
    expect(waits.told).toEqual([2, 4, 6]);
    told.match.accept(1);
    threads[1]!.mask(0, 7);
    expect(told.told).toEqual([2, 7]);
  });

  it('fails a match whose grammar is wrong, and is replaced where it says that it is worn', async () => {
    const { threads, open } = setup();
    const [wrong, left, good] = [open('wrong'), open('left'), open('good')];
    await settle();
    threads[0]!.reply({ type: 'ready' });
    threads[0]!.reply({ type: 'failed', match: 0, cause: 'grammar', message: 'no root', worn: false });
    threads[0]!.reply({ type: 'failed', match: 1, cause: 'token', message: 'token 3', worn: true });
    expect(wrong.told).toEqual(['invalid_request: The grammar cannot be matched: no root.']);
    expect(left.told).toEqual(['internal: An answer left its grammar: token 3.']);
    await settle();
    threads[1]!.reply({ type: 'ready' });
    threads[1]!.mask(2, 5);
    expect(good.told).toEqual([5]);
  });

  it('that breaks or does not start fails all, and the next match tries anew', async () => {
    const { clock, threads, open } = setup();
    const first = open('a');
    threads[0]!.broken('no script');
    expect(first.told).toEqual(['overloaded: The thread that matches grammars failed: no script']);
    const second = open('b');
    await settle();
    clock.advance(60_000);
    expect(second.told).toEqual(['overloaded: The grammar engine did not start in time.']);
    expect(threads.map(({ ended }) => ended)).toEqual([true, true]);
  });

  it('takes 256 matches and no more; those without an end token are refused', async () => {
    const { threads, open } = setup();
    const all = Array.from({ length: 256 }, () => open('g'));
    const more = open('g');
    await settle();
    expect(more.told[0]).toContain('overloaded: 256 sequences');
    all[0]!.match.close();
    const endless = open('g', [], [2, 99]);
    await settle();
    threads[0]!.reply({ type: 'ready' });
    expect(endless.told[0]).toContain('invalid_request: This request cannot be held to a grammar: no end token');
    expect(threads[0]!.types().filter((type) => type.startsWith('open'))).toHaveLength(255);
  });
});

describe('over a real thread', () => {
  const matches: GrammarMatch[] = [];
  afterEach(() => {
    for (const match of matches.splice(0)) match.close();
  });

  /** The ids of each mask in turn, as the tokens are taken; the last entry may be why it failed. */
  async function follow(matcher: ThreadMatcher, grammar: string, tokens: number[], generated: number[] = []) {
    const masks: (number[] | string)[] = [];
    await new Promise<void>((resolve) => {
      const match = matcher.open(
        { grammar, generated, stopIds: [0] },
        {
          mask: (mask) => {
            masks.push([0, 1, 2, 3].filter((id) => ((mask[0] as number) >>> id) & 1));
            const next = tokens.shift();
            if (next === undefined) resolve();
            else match.accept(next);
          },
          failed: ({ message }) => {
            masks.push(message);
            resolve();
          },
        },
      );
      matches.push(match);
    });
    return masks;
  }

  it('masks are those of the grammar, from wherever an attempt begins, and the end comes where it may', async () => {
    const matcher = new ThreadMatcher({
      startThread: startGrammarThread,
      vocabulary: async () => VOCABULARY,
      // However slow the machine, it gives up nothing.
      clock: new FakeClock(),
    });
    expect(await follow(matcher, 'root ::= ("ab" | "aab") "b"?', [1, 3, 2])).toEqual([[1, 3], [1, 2, 3], [0, 2], [0]]);
    expect(await follow(matcher, 'root ::= ("ab" | "aab") "b"?', [], [1, 3])).toEqual([[0, 2]]);
    const [why] = await follow(matcher, 'root ::= other', []);
    expect(why).toContain('Rule "other" is not defined');
    const [left] = await follow(matcher, 'root ::= "a"', [], [2]);
    expect(left).toContain('token 2 is not allowed');
    const [nothing] = await follow(matcher, 'root ::= "c"', []);
    expect(nothing).toContain('no token of the model can come');
    // Too deep for the stack of WebAssembly.
    const [deep] = await follow(matcher, `root ::= ${'("a" | "b" '.repeat(3000)}"a"${')'.repeat(3000)}`, []);
    expect(deep).toContain('cannot be matched');
    expect(await follow(matcher, 'root ::= "a"', [])).toEqual([[1]]);
  });
});
