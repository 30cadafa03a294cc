import type { GrammarReply, GrammarRequest, Vocabulary } from './messages.ts';
import { type CompiledGrammar, causeOf, type GrammarCompiler, type GrammarMatcher, loadXgrammar } from './xgrammar.ts';

/** Compiled grammars that are kept though nobody uses them. */
const KEPT_GRAMMARS = 16;
/** Grammars that failed to compile, each of which leaves some memory behind: WebAssembly unwinds nothing. */
const MAX_FAILURES = 16;

interface Compiled {
  readonly grammar: CompiledGrammar;
  uses: number;
}

interface Match {
  readonly matcher: GrammarMatcher;
  readonly compiled: Compiled;
  readonly endIds: readonly number[];
}

/** The thread's side: compiles grammars for a vocabulary, and says token by token what may come next. */
export class Matching {
  /** Last used last. */
  readonly #compiled = new Map<string, Compiled>();
  readonly #matches = new Map<number, Match>();
  #compiler: GrammarCompiler | null = null;
  #vocabSize = 0;
  #failures = 0;
  /** Requests are answered one after the other. */
  #last: Promise<void> = Promise.resolve();

  constructor(private readonly reply: (reply: GrammarReply, transfer: Transferable[]) => void) {}

  /** Errors of the thread itself, as when the grammar engine does not load, are thrown. */
  take(request: GrammarRequest): Promise<void> {
    this.#last = this.#last.then(() => this.#handle(request));
    return this.#last;
  }

  async #handle(request: GrammarRequest): Promise<void> {
    switch (request.type) {
      case 'vocabulary':
        this.#compiler = await compilerOf(request.vocabulary);
        this.#vocabSize = request.vocabulary.ends.length;
        this.reply({ type: 'ready' }, []);
        return;
      case 'open':
        return this.#open(request);
      case 'accept':
        return this.#accept(request);
      case 'close':
        this.#close(request.match);
    }
  }

  async #open({ match, grammar, tokens, endIds }: Extract<GrammarRequest, { type: 'open' }>): Promise<void> {
    let compiled: Compiled;
    try {
      compiled = await this.#compile(grammar);
    } catch (error) {
      this.#failures += 1;
      const { words, meant } = causeOf(error);
      this.#fail(match, 'grammar', words, !meant || this.#failures >= MAX_FAILURES);
      return;
    }
    const { GrammarMatcher } = await loadXgrammar();
    compiled.uses += 1;
    const matcher = await GrammarMatcher.createGrammarMatcher(compiled.grammar);
    this.#matches.set(match, { matcher, compiled, endIds });
    for (const token of tokens) if (!this.#takes(match, token)) return;
    await this.#mask(match);
  }

  async #accept({ match, token }: Extract<GrammarRequest, { type: 'accept' }>): Promise<void> {
    if (this.#takes(match, token)) await this.#mask(match);
  }

  /** False where the match is over. */
  #takes(match: number, token: number): boolean {
    const entry = this.#matches.get(match);
    if (!entry) return false;
    try {
      if (entry.matcher.acceptToken(token)) return true;
      this.#fail(match, 'token', `token ${token} is not allowed where it stands`, false);
    } catch (error) {
      this.#fail(match, 'grammar', causeOf(error).words, true);
    }
    return false;
  }

  async #mask(match: number): Promise<void> {
    const entry = this.#matches.get(match);
    if (!entry) return;
    let mask: Uint32Array<ArrayBuffer>;
    try {
      mask = this.#withEnds(await entry.matcher.getNextTokenBitmask(), entry.endIds);
    } catch (error) {
      this.#fail(match, 'grammar', causeOf(error).words, true);
      return;
    }
    if (mask.some((word) => word !== 0)) this.reply({ type: 'mask', match, mask }, [mask.buffer]);
    else this.#fail(match, 'grammar', 'no token of the model can come where it allows nothing else', false);
  }

  /** The mask of xgrammar with the match's end ids in the place of the one token, after the last, that ends all of them there. */
  #withEnds(bits: Int32Array, endIds: readonly number[]): Uint32Array<ArrayBuffer> {
    const size = this.#vocabSize;
    const mask = new Uint32Array(Math.ceil(size / 32));
    mask.set(bits.subarray(0, mask.length));
    if (((bits[size >>> 5] ?? 0) >>> (size & 31)) & 1) for (const id of endIds) mask[id >>> 5]! |= 1 << (id & 31);
    // What lies beyond the vocabulary is no token.
    if (size % 32 !== 0) mask[mask.length - 1]! &= 2 ** (size % 32) - 1;
    return mask;
  }

  async #compile(grammar: string): Promise<Compiled> {
    const known = this.#compiled.get(grammar);
    this.#compiled.delete(grammar);
    const compiler = this.#compiler;
    if (compiler === null) throw new Error('there is no vocabulary yet');
    const compiled = known ?? { grammar: await compiler.compileGrammar(grammar), uses: 0 };
    this.#compiled.set(grammar, compiled);
    this.#forgetSome();
    return compiled;
  }

  #forgetSome(): void {
    const unused = [...this.#compiled].filter(([, { uses }]) => uses === 0);
    for (const [text, { grammar }] of unused.slice(0, Math.max(0, unused.length - KEPT_GRAMMARS))) {
      grammar.dispose();
      this.#compiled.delete(text);
    }
  }

  #fail(match: number, cause: 'grammar' | 'token', message: string, worn: boolean): void {
    this.#close(match);
    this.reply({ type: 'failed', match, cause, message, worn }, []);
  }

  #close(match: number): void {
    const entry = this.#matches.get(match);
    if (!entry) return;
    this.#matches.delete(match);
    entry.compiled.uses -= 1;
    entry.matcher.dispose();
    this.#forgetSome();
  }
}

async function compilerOf({ bytes, ends }: Vocabulary): Promise<GrammarCompiler> {
  const { GrammarCompiler, TokenizerInfo } = await loadXgrammar();
  const letters = byteLetters();
  const tokens = Array.from(ends, (end, i) => {
    let token = '';
    for (let at = i === 0 ? 0 : (ends[i - 1] as number); at < end; at++) token += letters[bytes[at] as number];
    return token;
  });
  // Each match names end ids of its own: here one token, which the model does not have, stands for them.
  const info = await TokenizerInfo.createTokenizerInfo([...tokens, ''], 'byte_level', false, tokens.length + 1, [
    tokens.length,
  ]);
  return GrammarCompiler.createGrammarCompiler(info, false);
}

/** GPT-2's letters of the 256 bytes: the only spelling by which xgrammar's tokens may be any bytes (openai/gpt-2, `bytes_to_unicode`). */
function byteLetters(): string[] {
  const printable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let shifted = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : shifted++));
}
