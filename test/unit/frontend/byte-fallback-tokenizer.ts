/** A small SentencePiece-like tokenizer.json as llama 2 has it: `<0xHH>` bytes, U+2581 for spaces, BOS by template. */
const hex = (byte: number) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
const pieces = ['\u2581', 'a', 'b', 'c', 'é', '\u2581a', 'ab', '世', '\u2581\u2581'];
const names = ['<unk>', '<s>', '</s>', ...Array.from({ length: 256 }, (_, byte) => hex(byte)), ...pieces];
export const VOCAB = Object.fromEntries(names.map((name, id) => [name, id]));
export const idOf = (name: string): number => VOCAB[name] as number;
export const byteId = (byte: number): number => idOf(hex(byte));

const special = (id: number, content: string) => ({
  id,
  content,
  special: true,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
});

export const BYTE_FALLBACK_FILES = {
  tokenizerJson: {
    version: '1.0',
    added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '\u2581' },
        { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: VOCAB,
      merges: ['\u2581 a', 'a b', '\u2581 \u2581'],
    },
  },
  tokenizerConfig: {
    bos_token: { content: '<s>' },
    eos_token: '</s>',
    unk_token: null,
    chat_template: [
      { name: 'default', template: '{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}' },
      { name: 'tool_use', template: '{{ bos_token }}tools: {{ tools | length }}' },
    ],
  },
};
