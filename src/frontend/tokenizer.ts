import { Tokenizer } from '@huggingface/tokenizers';
import * as z from 'zod';
import { ChatTemplate, type TemplateInput } from './chat-template.ts';
import { badRequest } from './errors.ts';
import { type PieceOf, pieceOf } from './token-pieces.ts';

const TokenizerJson = z.looseObject({
  added_tokens: z
    .array(z.looseObject({ id: z.number().int().min(0), content: z.string(), special: z.boolean().optional() }))
    .max(65_536)
    .default([]),
  decoder: z.unknown(),
  model: z.looseObject({ type: z.string().optional() }),
});

const TokenText = z.union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content)]);
const TokenizerConfig = z.looseObject({
  chat_template: z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]).nullish(),
  additional_special_tokens: z.array(TokenText).nullish(),
});
/** The names by which HF gives special tokens to a chat template. */
const SPECIAL_NAMES = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'];

export interface TokenizerFiles {
  /** Parsed `tokenizer.json`. */
  readonly tokenizerJson: unknown;
  /** Parsed `tokenizer_config.json`; `{}` where the model has none. */
  readonly tokenizerConfig: unknown;
  /** Text of `chat_template.jinja` or of `--chat-template`; wins over the configuration's. */
  readonly chatTemplate?: string;
}

// ignoreBOM: as the detokenizer's.
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What a token is in a text. */
export class TokenPiece {
  #text: string | null | undefined;

  constructor(
    readonly bytes: Uint8Array,
    /** A control token: hidden from texts unless `skip_special_tokens` is false. */
    readonly special: boolean,
  ) {}

  /** Its text where it is one by itself; null where its bytes begin or end inside of a character, or are none. */
  get text(): string | null {
    if (this.#text === undefined) {
      try {
        this.#text = this.bytes.length === 0 ? null : strict.decode(this.bytes);
      } catch {
        this.#text = null;
      }
    }
    return this.#text;
  }
}

const NOTHING = new TokenPiece(new Uint8Array(0), false);

/** Text to token ids and messages to text for one model; `Detokenizer` goes the other way. */
export class ChatTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #template: ChatTemplate | null;
  readonly #pieceOf: PieceOf;
  readonly #added: ReadonlyMap<number, TokenPiece>;
  readonly #pieces = new Map<number, TokenPiece>();
  /** Bytes of the longest token: n bytes of text are at least n / longestPiece tokens. */
  readonly longestPiece: number;

  constructor(tokenizer: Tokenizer, template: ChatTemplate | null, pieces: PieceOf, added: Map<number, TokenPiece>) {
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#pieceOf = pieces;
    this.#added = added;
    let longest = 1;
    for (const id of tokenizer.get_vocab().values()) longest = Math.max(longest, this.piece(id).bytes.length);
    this.longestPiece = longest;
  }

  /** The text of the chat template; null where the model has none. */
  get template(): string | null {
    return this.#template?.text ?? null;
  }

  /** Ids of those of `texts` that are one token each. */
  tokenIds(texts: readonly string[]): ReadonlySet<number> {
    const ids = texts.map((text) => this.#tokenizer.token_to_id(text));
    return new Set(ids.filter((id) => id !== undefined));
  }

  /** Token ids of a text. Special tokens written in the text become their ids; `addSpecialTokens` adds BOS and the like as the model's post-processor says. */
  encode(text: string, addSpecialTokens: boolean): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  /** The prompt's text of a chat. Throws `ApiError` 400 when the model has no chat template or the template refuses. */
  render(input: TemplateInput): string {
    if (this.#template === null) {
      throw badRequest(
        'This model has no chat template, so it cannot answer chats. Use /v1/completions, or start the server with --chat-template.',
        'messages',
      );
    }
    return this.#template.render(input);
  }

  /** A token as the vocabulary writes it (`Ġthe`); empty for ids that it lacks. */
  word(id: number): string {
    return this.#tokenizer.id_to_token(id) ?? '';
  }

  /** What a token adds to a text; nothing for ids that the vocabulary lacks (LM heads are padded). */
  piece(id: number): TokenPiece {
    const known = this.#added.get(id) ?? this.#pieces.get(id);
    if (known !== undefined) return known;
    const token = this.#tokenizer.id_to_token(id);
    if (token === undefined) return NOTHING;
    const piece = new TokenPiece(this.#pieceOf(token), false);
    this.#pieces.set(id, piece);
    return piece;
  }
}

/** Builds a model's tokenizer from its files. Throws `Error` that names the file and what is wrong with it. */
export function loadChatTokenizer(files: TokenizerFiles): ChatTokenizer {
  const json = check('tokenizer.json', TokenizerJson, files.tokenizerJson);
  const config = check('tokenizer_config.json', TokenizerConfig, files.tokenizerConfig);
  const alsoSpecial = new Set(config.additional_special_tokens ?? []);
  const encoder = new TextEncoder();
  const added = new Map(
    json.added_tokens.map(({ id, content, special }): [number, TokenPiece] => [
      id,
      new TokenPiece(encoder.encode(content), special === true || alsoSpecial.has(content)),
    ]),
  );
  const specialTokens: Record<string, string> = {};
  for (const name of SPECIAL_NAMES) {
    const token = TokenText.safeParse(config[name]);
    if (token.success) specialTokens[name] = token.data;
  }
  const source = files.chatTemplate ?? config.chat_template ?? null;
  return new ChatTokenizer(
    build('tokenizer.json', () => new Tokenizer(json, { ...config, additional_special_tokens: [...alsoSpecial] })),
    build('the chat template', () => (source === null ? null : new ChatTemplate(source, specialTokens))),
    pieceOf(json.decoder),
    added,
  );
}

function check<T>(file: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new Error(`${file} is not as expected: ${z.prettifyError(result.error)}`);
}

function build<T>(what: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new Error(`Cannot use ${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
