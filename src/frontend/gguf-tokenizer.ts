import * as z from 'zod';
import { gpt2Splits } from './gguf-splits.ts';
import type { TokenizerFiles } from './tokenizer.ts';

const MAX_TOKENS = 1 << 21;
const id = z
  .number()
  .int()
  .min(0)
  .max(MAX_TOKENS - 1);

/** The vocabulary in a GGUF file's metadata, without the prefix `tokenizer.ggml.`: llama.cpp's `gguf-py/gguf/constants.py`. */
const Vocabulary = z.object({
  model: z.string().max(64),
  pre: z.string().max(64).optional(),
  tokens: z.array(z.string()).min(1).max(MAX_TOKENS),
  token_type: z.array(z.number().int()).max(MAX_TOKENS).optional(),
  scores: z.array(z.number()).max(MAX_TOKENS).optional(),
  merges: z
    .array(z.string())
    .max(4 * MAX_TOKENS)
    .optional(),
  bos_token_id: id.optional(),
  eos_token_id: id.optional(),
  unknown_token_id: id.optional(),
  padding_token_id: id.optional(),
  add_bos_token: z.boolean().optional(),
  add_eos_token: z.boolean().optional(),
  add_space_prefix: z.boolean().optional(),
});
type Vocabulary = z.infer<typeof Vocabulary>;

/** `token_type`: sentencepiece's kinds of tokens. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

/** What `tokenizer.json` says of how text becomes tokens. */
interface Pipeline {
  readonly normalizer: unknown;
  readonly pre_tokenizer: unknown;
  readonly decoder: unknown;
  readonly model: Readonly<Record<string, unknown>>;
  /** Where the file does not say. */
  readonly addBos: boolean;
}

/**
 * The tokenizer and chat template in the metadata of a GGUF file, as the files that `loadChatTokenizer` takes.
 * Throws `Error` that names the key that is missing or not supported.
 */
export function ggufTokenizerFiles(metadata: ReadonlyMap<string, unknown>): TokenizerFiles {
  const prefix = 'tokenizer.ggml.';
  const own = [...metadata].filter(([key]) => key.startsWith(prefix));
  const parsed = Vocabulary.safeParse(Object.fromEntries(own.map(([key, value]) => [key.slice(prefix.length), value])));
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw new Error(`its ${prefix}${path.join('.')} is not as expected: ${message}.`);
  }
  const v = parsed.data;
  const { addBos, model, ...pipeline } = pipelineOf(v);
  const bos = (v.add_bos_token ?? addBos) ? v.bos_token_id : undefined;
  const eos = v.add_eos_token === true ? v.eos_token_id : undefined;
  return {
    tokenizerJson: {
      version: '1.0',
      added_tokens: addedTokens(v),
      ...pipeline,
      post_processor: template(v, bos, eos),
      model: { type: 'BPE', dropout: null, ...model, vocab: vocabularyOf(v) },
    },
    tokenizerConfig: {
      ...named(v, 'bos_token', v.bos_token_id),
      ...named(v, 'eos_token', v.eos_token_id),
      ...named(v, 'unk_token', v.unknown_token_id),
      ...named(v, 'pad_token', v.padding_token_id),
      chat_template: chatTemplate(metadata),
    },
  };
}

function pipelineOf(v: Vocabulary): Pipeline {
  if (v.model === 'gpt2') return bytePairs(v);
  if (v.model === 'llama') return sentencePiece(v);
  throw new Error(`its tokenizer.ggml.model "${v.model}" is not supported. Supported: gpt2, llama.`);
}

/** Byte-level BPE: merges in their order. */
function bytePairs(v: Vocabulary): Pipeline {
  if (v.merges === undefined) throw new Error('it has no tokenizer.ggml.merges, which a gpt2 tokenizer needs.');
  const { normalizer, pre_tokenizer, ignoreMerges, addBos } = gpt2Splits(v.pre);
  const merges = v.merges.map((merge) => {
    const at = merge.indexOf(' ', 1);
    return [merge.slice(0, at), merge.slice(at + 1)];
  });
  return {
    normalizer,
    pre_tokenizer,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    model: { unk_token: null, fuse_unk: false, byte_fallback: false, ignore_merges: ignoreMerges, merges },
    addBos,
  };
}

const SPACE = '\u2581';

/**
 * SentencePiece BPE: of all neighbours whose union is a token, the union of the highest score comes first. That is BPE with the merges
 * in the order of the scores of what they give, as HF's `convert_slow_tokenizer.py` makes them (`generate_merges`).
 */
function sentencePiece(v: Vocabulary): Pipeline {
  if (v.scores === undefined || v.scores.length !== v.tokens.length)
    throw new Error('its tokenizer.ggml.scores are not one for each token, which a llama tokenizer needs.');
  const { scores } = v;
  const ids = new Map(v.tokens.flatMap((token, i) => (typeOf(v, i) === NORMAL ? [[token, i] as const] : [])));
  const found: { left: string; right: string; score: number; order: number }[] = [];
  for (const [token, own] of ids) {
    const splits: typeof found = [];
    for (let at = 0; at < token.length; ) {
      at += (token.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
      const [left, right] = [token.slice(0, at), token.slice(at)];
      const order = ids.get(left);
      if (order !== undefined && ids.has(right)) splits.push({ left, right, score: scores[own] ?? 0, order });
    }
    found.push(...splits.sort((a, b) => a.order - b.order));
  }
  const merges = found.sort((a, b) => b.score - a.score).map(({ left, right }) => [left, right]);
  const unknown = v.unknown_token_id ?? 0;
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: SPACE };
  const prefixed = v.add_space_prefix ?? true;
  return {
    normalizer: prefixed
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: SPACE }, spaces] }
      : { type: 'Sequence', normalizers: [spaces] },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefixed ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: { unk_token: v.tokens[unknown], fuse_unk: true, byte_fallback: true, ignore_merges: false, merges },
    addBos: true,
  };
}

/** A token that no text gives may stand for several ids (padding); of equal ones the first counts. */
function vocabularyOf(v: Vocabulary): Record<string, number> {
  const vocabulary: Record<string, number> = Object.create(null);
  for (const [i, token] of v.tokens.entries()) {
    if (typeOf(v, i) !== UNUSED && !(token in vocabulary)) vocabulary[token] = i;
  }
  return vocabulary;
}

function addedTokens(v: Vocabulary): unknown[] {
  return v.tokens.flatMap((content, i) => {
    const type = typeOf(v, i);
    if (content === '' || (type !== CONTROL && type !== USER_DEFINED && type !== UNKNOWN)) return [];
    const special = type !== USER_DEFINED;
    return [{ id: i, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false }];
  });
}

function template(v: Vocabulary, bos: number | undefined, eos: number | undefined): unknown {
  const special = [bos, eos].filter((each) => each !== undefined);
  if (special.length === 0) return null;
  const token = (of: number | undefined) =>
    of === undefined ? [] : [{ SpecialToken: { id: v.tokens[of], type_id: 0 } }];
  const around = (name: string) => [...token(bos), { Sequence: { id: name, type_id: 0 } }, ...token(eos)];
  return {
    type: 'TemplateProcessing',
    single: around('A'),
    pair: [...around('A'), ...around('B')],
    special_tokens: Object.fromEntries(
      special.map((of) => [v.tokens[of], { id: v.tokens[of], ids: [of], tokens: [v.tokens[of]] }]),
    ),
  };
}

function chatTemplate(metadata: ReadonlyMap<string, unknown>): unknown {
  const main = metadata.get('tokenizer.chat_template');
  const tools = metadata.get('tokenizer.chat_template.tool_use');
  if (typeof main !== 'string') return null;
  if (typeof tools !== 'string') return main;
  return [
    { name: 'default', template: main },
    { name: 'tool_use', template: tools },
  ];
}

function named(v: Vocabulary, name: string, of: number | undefined): Record<string, string> {
  const token = of === undefined ? undefined : v.tokens[of];
  return token === undefined ? {} : { [name]: token };
}

function typeOf(v: Vocabulary, i: number): number {
  return v.token_type?.[i] ?? NORMAL;
}
