import * as z from 'zod';

const Decoder: z.ZodType<DecoderConfig> = z.lazy(() =>
  z.discriminatedUnion('type', [
    z.object({ type: z.literal('ByteLevel') }),
    z.object({ type: z.literal('ByteFallback') }),
    z.object({ type: z.literal('Fuse') }),
    z.object({ type: z.literal('Metaspace'), replacement: z.string().default('\u2581') }),
    z.object({ type: z.literal('Replace'), pattern: z.object({ String: z.string() }), content: z.string() }),
    z.object({ type: z.literal('Strip'), content: z.string(), start: z.number(), stop: z.literal(0) }),
    z.object({ type: z.literal('Sequence'), decoders: z.array(Decoder).max(16) }),
  ]),
);
type DecoderConfig =
  | { type: 'ByteLevel' | 'ByteFallback' | 'Fuse' }
  | { type: 'Metaspace'; replacement: string }
  | { type: 'Replace'; pattern: { String: string }; content: string }
  | { type: 'Strip'; content: string; start: number; stop: 0 }
  | { type: 'Sequence'; decoders: DecoderConfig[] };

/** The bytes that a token adds to a text. */
export type PieceOf = (token: string) => Uint8Array;

const encoder = new TextEncoder();

/**
 * How the vocabulary's strings turn into bytes, from the `decoder` of tokenizer.json: byte-level BPE (GPT-2's alphabet),
 * or SentencePiece with `<0xHH>` bytes. A text is the UTF-8 of its tokens' bytes one after the other, and nothing else: no `Strip`,
 * since generated text follows a prompt (its first space is real), and no clean-up of spaces, as vLLM streams.
 * Throws `Error` for decoders that are no such concatenation.
 */
export function pieceOf(decoder: unknown): PieceOf {
  const parsed = Decoder.safeParse(decoder);
  if (!parsed.success) {
    throw new Error(
      `tokenizer.json has a decoder that Quire does not know (${JSON.stringify(decoder)?.slice(0, 200)}); ` +
        'it knows ByteLevel, and sequences of Replace, ByteFallback, Fuse, Strip and Metaspace.',
    );
  }
  const steps = flatten(parsed.data);
  if (steps.some((step) => step.type === 'ByteLevel')) return byteLevelPiece;
  const byteFallback = steps.some((step) => step.type === 'ByteFallback');
  return (token) => {
    const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1] : undefined;
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    let text = token;
    for (const step of steps) {
      if (step.type === 'Replace') text = text.replaceAll(step.pattern.String, () => step.content);
      if (step.type === 'Metaspace') text = text.replaceAll(step.replacement, ' ');
    }
    return encoder.encode(text);
  };
}

function flatten(decoder: DecoderConfig): DecoderConfig[] {
  return decoder.type === 'Sequence' ? decoder.decoders.flatMap(flatten) : [decoder];
}

/** GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and on (openai/gpt-2, `bytes_to_unicode`). */
const BYTE_OF_CHAR: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  const map = new Map<string, number>();
  let shifted = 0x100;
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(printable(byte) ? byte : shifted++), byte);
  return map;
})();

function byteLevelPiece(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let at = 0; at < token.length; at++) {
    const byte = BYTE_OF_CHAR.get(token.charAt(at));
    // As HF tokenizers: a token with a letter outside of the alphabet was added as plain text.
    if (byte === undefined) return encoder.encode(token);
    bytes[at] = byte;
  }
  return bytes;
}
