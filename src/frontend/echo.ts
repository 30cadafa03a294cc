import type { ChoiceDelta, OutputToken } from './choice-stream.ts';
import type { PromptInput } from './completion-schema.ts';
import type { ChatTokenizer } from './tokenizer.ts';

/** A prompt as `echo` puts it before its answers. */
export interface EchoedPrompt {
  readonly text: string;
  /** Length of `text` in code points, which `text_offset` counts. */
  readonly characters: number;
  readonly tokens: readonly { readonly id: number; readonly textOffset: number }[];
}

/** `ids` are the prompt's; its text is the client's own, or that of the ids where it sent ids. Without a tokenizer there is none. */
export function echoedPrompt(
  prompt: PromptInput,
  ids: readonly number[],
  tokenizer: ChatTokenizer | null,
): EchoedPrompt {
  if (tokenizer === null) return { text: '', characters: 0, tokens: ids.map((id) => ({ id, textOffset: 0 })) };
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const own = typeof prompt === 'string' ? prompt : null;
  let text = '';
  let characters = 0;
  const add = (piece: string) => {
    text += piece;
    for (const _ of piece) characters++;
  };
  const tokens = ids.map((id) => {
    const textOffset = characters;
    const { bytes, special } = tokenizer.piece(id);
    // A BOS that the tokenizer added is a token of the prompt, and not in the text that the client sent.
    const added = special && own !== null && !own.startsWith(new TextDecoder().decode(bytes), text.length);
    if (!added) add(decoder.decode(bytes, { stream: true }));
    return { id, textOffset };
  });
  add(decoder.decode());
  return { text: own ?? text, characters: own === null ? characters : [...own].length, tokens };
}

/** The tokens of a choice, at their places in a text that begins with the echo; `begins`: after the echo's own, of which the first has no logprob. */
export function withEcho(
  echo: EchoedPrompt | null,
  begins: boolean,
  { tokens, promptLogprobs }: Pick<ChoiceDelta, 'tokens' | 'promptLogprobs'>,
): readonly OutputToken[] {
  if (echo === null) return tokens;
  const before = echo.tokens.map((token, at) => ({ ...token, logprob: promptLogprobs?.[at] ?? null }));
  const after = tokens.map((token) => ({ ...token, textOffset: token.textOffset + echo.characters }));
  return begins ? [...before, ...after] : after;
}
