/** What a parser finds in a text, in order. Between a `call` and its `call_end` come only its `arguments`. */
export type ParserEvent =
  | { readonly type: 'text' | 'reasoning'; readonly text: string }
  /** A call begins: its name is known. */
  | { readonly type: 'call'; readonly name: string }
  /** The next piece of its arguments; all of them together are one JSON object. */
  | { readonly type: 'arguments'; readonly text: string }
  /** The call is whole. It stays out where the text broke off or went wrong inside of the call. */
  | { readonly type: 'call_end' };

/**
 * Reads a text that comes in pieces. The events of all calls, pieces of one kind put together, do not depend on how the text was cut;
 * nothing of the text is lost but markers and the whitespace around them.
 */
export interface TextParser {
  push(text: string): readonly ParserEvent[];
  /** The text has ended. */
  flush(): readonly ParserEvent[];
}
