/** How byte-level tokenizers cut a text before they merge: the part of `tokenizer.json` that GGUF files have only a name for. */
export interface Splits {
  readonly normalizer: unknown;
  readonly pre_tokenizer: unknown;
  /** A word that is a token is that token, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Texts begin with BOS where the file does not say. */
  readonly addBos: boolean;
}

const BYTES = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
/** GPT-2's own words. */
const GPT2 = { ...BYTES, use_regex: true };
const byRegex = (Regex: string) => ({
  type: 'Sequence',
  pretokenizers: [{ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }, BYTES],
});

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const LINES = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
/** cl100k's words, with runs of so many digits. */
const words = (digits: string) =>
  `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${LINES}`;
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** o200k's: words are also cut where small letters end. */
const caseWords = (ending: string, digits: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${ending}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${ending}|${digits}` +
  `| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${LINES}`;

const PLAIN = { normalizer: null, ignoreMerges: false, addBos: false };
const LLAMA3: Splits = { ...PLAIN, pre_tokenizer: byRegex(words('\\p{N}{1,3}')), ignoreMerges: true, addBos: true };
const QWEN2: Splits = { ...PLAIN, normalizer: { type: 'NFC' }, pre_tokenizer: byRegex(words('\\p{N}')) };
const DIGITS: Splits = {
  ...PLAIN,
  pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, GPT2] },
};
const TEKKEN: Splits = {
  ...PLAIN,
  pre_tokenizer: byRegex(caseWords('', '\\p{N}')),
  ignoreMerges: true,
  addBos: true,
};

/** By `tokenizer.ggml.pre`; the expressions are those of the models' own `tokenizer.json`, the names llama.cpp's (`llama-vocab.cpp`). */
const SPLITS: Readonly<Record<string, Splits>> = {
  'llama-bpe': LLAMA3,
  'llama-v3': LLAMA3,
  llama3: LLAMA3,
  qwen2: QWEN2,
  'deepseek-r1-qwen': QWEN2,
  'gpt-2': { ...PLAIN, pre_tokenizer: GPT2 },
  smollm: DIGITS,
  starcoder: DIGITS,
  tekken: TEKKEN,
  'gpt-4o': { ...PLAIN, pre_tokenizer: byRegex(caseWords(`${CONTRACTIONS}?`, '\\p{N}{1,3}')) },
};

/** Throws `Error` for a name that stands for no expression here: another one would give other tokens, and wrong answers. */
export function gpt2Splits(pre: string | undefined): Splits {
  if (pre !== undefined && Object.hasOwn(SPLITS, pre)) return SPLITS[pre] as Splits;
  const known = Object.keys(SPLITS).join(', ');
  throw new Error(
    `its tokenizer.ggml.pre "${pre ?? ''}" is not supported. Supported: ${known}. Start with --skip-tokenizer-init to serve token ids only.`,
  );
}
