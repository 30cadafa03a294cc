import type { Finish } from './choice-stream.ts';
import type { ParserEvent } from './parsers/events.ts';
import type { OutputParser } from './parsers/output-parser.ts';

interface CallDelta {
  readonly index: number;
  readonly id?: string;
  readonly type?: 'function';
  readonly function: { readonly name?: string; arguments: string };
}

/** What a piece of text adds to a choice's message: OpenAI's delta, with vLLM's and DeepSeek's `reasoning_content`. */
export interface MessageDelta {
  content?: string;
  reasoning_content?: string;
  tool_calls?: CallDelta[];
}

/** The message of one choice as it grows. */
export class ChoiceMessage {
  readonly #parser: OutputParser;
  #calls = 0;

  constructor(parser: OutputParser) {
    this.#parser = parser;
  }

  /** `ended`: no more text comes. */
  push(text: string, ended: boolean): MessageDelta {
    const delta: MessageDelta = {};
    for (const event of this.#parser.push(text)) this.#add(event, delta);
    if (ended) for (const event of this.#parser.flush()) this.#add(event, delta);
    return delta;
  }

  /** Calls end an answer that ended by itself with each of them whole; one that was cut says so. */
  finishReason(finish: Finish): Finish['reason'] | 'tool_calls' {
    return finish.reason === 'stop' && this.#parser.called ? 'tool_calls' : finish.reason;
  }

  #add(event: ParserEvent, delta: MessageDelta): void {
    switch (event.type) {
      case 'text':
        if (event.text !== '') delta.content = (delta.content ?? '') + event.text;
        return;
      case 'reasoning':
        delta.reasoning_content = (delta.reasoning_content ?? '') + event.text;
        return;
      case 'call': {
        const call = { id: callId(), type: 'function', function: { name: event.name, arguments: '' } } as const;
        delta.tool_calls = [...(delta.tool_calls ?? []), { index: this.#calls++, ...call }];
        return;
      }
      case 'arguments': {
        const call = delta.tool_calls?.at(-1);
        if (call !== undefined) call.function.arguments += event.text;
        else delta.tool_calls = [{ index: this.#calls - 1, function: { arguments: event.text } }];
        return;
      }
      case 'call_end':
    }
  }
}

/** A choice's whole message. Its content is null where there is reasoning or a call instead. */
export function wholeMessage({ content, reasoning_content, tool_calls: calls }: MessageDelta): object {
  const instead = reasoning_content !== undefined || calls !== undefined;
  return {
    role: 'assistant',
    content: content ?? (instead ? null : ''),
    refusal: null,
    ...(reasoning_content === undefined ? {} : { reasoning_content }),
    ...(calls === undefined ? {} : { tool_calls: calls.map(({ index: _, ...call }) => call) }),
  };
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** Nine letters and digits: templates of Mistral's models take no other id. */
export function callId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => ALPHABET[byte % ALPHABET.length]).join('');
}
