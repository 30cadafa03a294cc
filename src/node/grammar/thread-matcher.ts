import { EngineError } from '../../engine/api.ts';
import type { GrammarListener, GrammarMatch, GrammarMatcher, GrammarWish } from '../../engine/grammar.ts';
import type { Clock } from '../../protocol/clock.ts';
import type { GrammarReply, GrammarRequest, GrammarThread, StartGrammarThread, Vocabulary } from './messages.ts';
import { isSilent } from './vocabulary.ts';

/** Sequences under grammars at once, on all engines of the node. */
const MAX_MATCHES = 256;
/** To load the grammar engine and read the model's vocabulary. */
const START_MS = 60_000;
/** To compile a grammar and replay what was generated; then for each token. A hub takes a node for hanging after 30 s, later 5. */
const OPEN_MS = 10_000;
const ACCEPT_MS = 4000;
/** The thread ends when it had nothing to do for so long: it holds tens of megabytes. */
const IDLE_MS = 60_000;

interface Match {
  readonly wish: GrammarWish;
  readonly listener: GrammarListener;
  readonly tokens: number[];
  /** The mask after `tokens` was not told. */
  waits: boolean;
}

/** A request that the thread has not answered. */
interface Asked {
  readonly match: number;
  /** Tokens of the match that the answer comes after. */
  readonly tokens: number;
  readonly ms: number;
}

export interface ThreadMatcherOptions {
  readonly startThread: StartGrammarThread;
  readonly vocabulary: () => Promise<Vocabulary>;
  readonly clock: Clock;
}

/**
 * Matches grammars in a thread of its own, which starts with the first one. What takes longer than it may ends with the thread: that grammar
 * is refused, and all other matches are replayed on a new one.
 */
export class ThreadMatcher implements GrammarMatcher {
  readonly #matches = new Map<number, Match>();
  /** In the order in which they were asked. */
  #asked: Asked[] = [];
  #thread: GrammarThread | null = null;
  #ready = false;
  #vocabulary: Vocabulary | null = null;
  #next = 0;
  #stopTimer: () => void = () => {};

  constructor(private readonly options: ThreadMatcherOptions) {}

  open(wish: GrammarWish, listener: GrammarListener): GrammarMatch {
    const id = this.#next++;
    const match: Match = { wish, listener, tokens: [...wish.generated], waits: true };
    this.#matches.set(id, match);
    if (this.#matches.size > MAX_MATCHES) {
      const error = new EngineError(
        'overloaded',
        `${MAX_MATCHES} sequences are held to grammars here, no more may be.`,
      );
      queueMicrotask(() => this.#fail(id, error));
    } else if (this.#ready) {
      queueMicrotask(() => this.#send(id));
    } else if (this.#thread === null) {
      this.#start();
    }
    return {
      accept: (token) => {
        if (this.#matches.get(id) !== match) return;
        match.tokens.push(token);
        match.waits = true;
        if (this.#ready) this.#ask({ type: 'accept', match: id, token }, match, ACCEPT_MS);
      },
      close: () => this.#close(id),
    };
  }

  #start(): void {
    const { startThread, clock } = this.options;
    const thread = startThread(
      (reply) => {
        if (this.#thread === thread) this.#take(reply);
      },
      (why) => {
        if (this.#thread === thread) this.#broken(`The thread that matches grammars failed: ${why}`);
      },
    );
    this.#thread = thread;
    this.#stopTimer();
    this.#stopTimer = clock.after(START_MS, () => this.#broken('The grammar engine did not start in time.'));
    void Promise.resolve(this.#vocabulary ?? this.options.vocabulary()).then(
      (vocabulary) => {
        this.#vocabulary = vocabulary;
        if (this.#thread === thread) thread.post({ type: 'vocabulary', vocabulary });
      },
      (error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        if (this.#thread === thread) this.#broken(`The vocabulary of the model cannot be read: ${why}`);
      },
    );
  }

  #send(id: number): void {
    const match = this.#matches.get(id);
    if (!match || !this.#ready || !this.#vocabulary) return;
    const { tokens, wish } = match;
    const vocabulary = this.#vocabulary;
    const endIds = wish.stopIds.filter((stop) => stop < vocabulary.ends.length && isSilent(vocabulary, stop));
    if (endIds.length > 0) {
      this.#ask({ type: 'open', match: id, grammar: wish.grammar, tokens, endIds }, match, OPEN_MS);
      return;
    }
    const why = 'no end token is among its stop ids, so that an answer under a grammar could not end';
    this.#fail(id, new EngineError('invalid_request', `This request cannot be held to a grammar: ${why}.`));
  }

  #ask(request: Extract<GrammarRequest, { match: number }>, { tokens }: Match, ms: number): void {
    this.#thread?.post(request);
    this.#asked.push({ match: request.match, tokens: tokens.length, ms });
    if (this.#asked.length === 1) this.#watch();
  }

  /** Bounds the time of what the thread works on: the oldest request. */
  #watch(): void {
    this.#stopTimer();
    const [first] = this.#asked;
    const { clock } = this.options;
    if (first) {
      this.#stopTimer = clock.after(first.ms, () => {
        const why = `it took longer than ${first.ms / 1000} s to compile or match. Make it smaller: lower its bounds of repetition, or nest less`;
        this.#restart();
        this.#fail(first.match, new EngineError('invalid_request', `The grammar was given up: ${why}.`));
      });
    } else if (this.#matches.size === 0) {
      this.#stopTimer = clock.after(IDLE_MS, () => this.#end());
    }
  }

  #take(reply: GrammarReply): void {
    if (reply.type === 'ready') {
      this.#ready = true;
      for (const id of [...this.#matches.keys()]) this.#send(id);
      this.#watch();
      return;
    }
    const asked = this.#asked.shift();
    this.#watch();
    const { match } = reply;
    const entry = this.#matches.get(match);
    if (reply.type === 'mask') {
      // After a new start it may come once more, or of fewer tokens than there are by now.
      if (!entry?.waits || asked?.tokens !== entry.tokens.length) return;
      entry.waits = false;
      entry.listener.mask(reply.mask);
      return;
    }
    const { cause, message, worn } = reply;
    const error =
      cause === 'grammar'
        ? new EngineError('invalid_request', `The grammar cannot be matched: ${message}.`)
        : new EngineError('internal', `An answer left its grammar: ${message}.`);
    this.#matches.delete(match);
    if (worn) this.#restart();
    entry?.listener.failed(error);
  }

  /** A new thread takes over where this one is. */
  #restart(): void {
    this.#end();
    if (this.#matches.size > 0) this.#start();
  }

  #end(): void {
    this.#stopTimer();
    this.#thread?.end();
    this.#thread = null;
    this.#ready = false;
    this.#asked = [];
  }

  #broken(why: string): void {
    this.#end();
    for (const id of [...this.#matches.keys()]) this.#fail(id, new EngineError('overloaded', why));
  }

  #fail(id: number, error: EngineError): void {
    const match = this.#matches.get(id);
    this.#close(id);
    match?.listener.failed(error);
  }

  #close(id: number): void {
    if (!this.#matches.delete(id)) return;
    if (this.#ready) this.#thread?.post({ type: 'close', match: id });
    if (this.#asked.length === 0 && this.#ready) this.#watch();
  }
}
