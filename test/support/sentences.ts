import { Matching } from '../../src/node/grammar/matching.ts';
import type { GrammarReply, Vocabulary } from '../../src/node/grammar/messages.ts';

/** A vocabulary of all bytes, some words that cross the parts of JSON, and one token that ends. */
const WORDS = ['":', '","', '"}', '], ', '": {', 'true', 'null', '12', '\n  ', 'ab', 'é', '🦊', '\\n', '"},{"'];
const PIECES = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...WORDS.map((word) => new TextEncoder().encode(word)),
];
const END = PIECES.length;

function vocabulary(): Vocabulary {
  const pieces = [...PIECES, new Uint8Array(0)];
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  const ends = Uint32Array.from(pieces, (piece) => {
    bytes.set(piece, at);
    at += piece.length;
    return at;
  });
  return { bytes, ends };
}

/** Numbers from 0 to 1, the same again for the same seed. */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    return (state >>> 0) / 2 ** 32;
  };
}

/** The grammar engine in this thread, over a small vocabulary: what a grammar allows. */
export class Sentences {
  private readonly replies: GrammarReply[] = [];
  private readonly matching = new Matching((reply) => this.replies.push(reply));
  private next = 0;

  private constructor() {}

  static async open(): Promise<Sentences> {
    const sentences = new Sentences();
    await sentences.matching.take({ type: 'vocabulary', vocabulary: vocabulary() });
    return sentences;
  }

  /** Whether the text is a sentence of the grammar. Throws what the engine says of a grammar that it cannot read. */
  async accepts(grammar: string, text: string): Promise<boolean> {
    const tokens = [...new TextEncoder().encode(text)];
    const mask = await this.ask(grammar, tokens);
    return mask !== null && allows(mask, END);
  }

  /** A sentence by `random` (from 0 to 1): at each token one of those allowed, the end where it may be in three of four cases. null after `most` tokens. */
  async random(grammar: string, random: () => number, most = 300): Promise<string | null> {
    const match = this.next++;
    const bytes: number[] = [];
    await this.matching.take({ type: 'open', match, grammar, tokens: [], endIds: [END] });
    try {
      for (let i = 0; i < most; i++) {
        const mask = this.mask();
        if (mask === null) throw new Error('the grammar allows nothing');
        if (allows(mask, END) && random() < 0.75)
          return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
        const ids = PIECES.map((_, id) => id).filter((id) => allows(mask, id));
        const id = ids[Math.floor(random() * ids.length)];
        if (id === undefined) return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
        bytes.push(...(PIECES[id] as Uint8Array));
        await this.matching.take({ type: 'accept', match, token: id });
      }
      return null;
    } finally {
      await this.matching.take({ type: 'close', match });
    }
  }

  private async ask(grammar: string, tokens: readonly number[]): Promise<Uint32Array | null> {
    const match = this.next++;
    await this.matching.take({ type: 'open', match, grammar, tokens, endIds: [END] });
    const mask = this.mask();
    await this.matching.take({ type: 'close', match });
    return mask;
  }

  /** null where a token was not allowed. */
  private mask(): Uint32Array | null {
    const reply = this.replies.pop();
    if (reply?.type === 'mask') return reply.mask;
    if (reply?.type === 'failed' && reply.cause === 'token') return null;
    throw new Error(reply?.type === 'failed' ? reply.message : 'no reply');
  }
}

const allows = (mask: Uint32Array, id: number) => (((mask[id >> 5] as number) >>> (id & 31)) & 1) === 1;
