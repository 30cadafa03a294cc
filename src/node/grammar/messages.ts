/** What tokens are in a text: token i is bytes[ends[i - 1] .. ends[i]). Those that stand for no text are empty. */
export interface Vocabulary {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly ends: Uint32Array<ArrayBuffer>;
}

/** To the thread that matches grammars; it answers each but `close` with one reply, in order. */
export type GrammarRequest =
  /** First and once. */
  | { readonly type: 'vocabulary'; readonly vocabulary: Vocabulary }
  | {
      readonly type: 'open';
      readonly match: number;
      readonly grammar: string;
      readonly tokens: readonly number[];
      readonly endIds: readonly number[];
    }
  | { readonly type: 'accept'; readonly match: number; readonly token: number }
  | { readonly type: 'close'; readonly match: number };

export type GrammarReply =
  | { readonly type: 'ready' }
  | { readonly type: 'mask'; readonly match: number; readonly mask: Uint32Array<ArrayBuffer> }
  /**
   * The match is over. `grammar`: nobody can match it; `token`: a token that the grammar does not allow there. `worn`: the thread should be
   * replaced before it is used again.
   */
  | {
      readonly type: 'failed';
      readonly match: number;
      readonly cause: 'grammar' | 'token';
      readonly message: string;
      readonly worn: boolean;
    };

/** A thread of its own, so that no grammar holds up the engine. */
export interface GrammarThread {
  post(request: GrammarRequest): void;
  /** Ends it at once, whatever it does. */
  end(): void;
}

/** Starts a thread. `broken` is told once when it ends by itself or cannot start. */
export type StartGrammarThread = (reply: (reply: GrammarReply) => void, broken: (why: string) => void) => GrammarThread;
