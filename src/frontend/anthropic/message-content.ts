import type { Block, BlockEvent } from '../blocks.ts';
import { callId } from '../choice-message.ts';

/** Clients send reasoning back with what the API gave them as its signature; here it is not checked. */
const SIGNATURE = 'unsigned';

/** The block that grows. */
interface Growing {
  readonly block: Block;
  readonly callId: string;
  text: string;
}

/** `content` of an answer as it grows, and the events that tell of it. */
export class MessageContent {
  readonly blocks: object[] = [];
  #growing: Growing | null = null;

  *push(events: Iterable<BlockEvent>): Generator<object> {
    for (const event of events) {
      const index = this.blocks.length;
      if (event.type === 'open') {
        this.#growing = { block: event.block, callId: callId(), text: '' };
        yield { type: 'content_block_start', index, content_block: contentBlock(this.#growing, '', {}) };
      } else if (this.#growing === null) {
        throw new Error('a part of the answer goes on that did not begin');
      } else if (event.type === 'delta') {
        this.#growing.text += event.text;
        yield { type: 'content_block_delta', index, delta: deltaOf(this.#growing.block, event.text) };
      } else {
        if (this.#growing.block.type === 'reasoning') {
          const delta = { type: 'signature_delta', signature: SIGNATURE };
          yield { type: 'content_block_delta', index, delta };
        }
        this.blocks.push(contentBlock(this.#growing, SIGNATURE, event.whole ? inputOf(this.#growing) : {}));
        this.#growing = null;
        yield { type: 'content_block_stop', index };
      }
    }
  }
}

function contentBlock({ block, callId: id, text }: Growing, signature: string, input: unknown): object {
  switch (block.type) {
    case 'reasoning':
      return { type: 'thinking', thinking: text, signature };
    case 'text':
      return { type: 'text', text, citations: null };
    case 'call':
      return { type: 'tool_use', id, name: block.name, input };
  }
}

/** Parsers give the arguments of a whole call as one JSON object. */
function inputOf({ block, text }: Growing): unknown {
  return block.type === 'call' && text !== '' ? JSON.parse(text) : {};
}

function deltaOf({ type }: Block, text: string): object {
  switch (type) {
    case 'reasoning':
      return { type: 'thinking_delta', thinking: text };
    case 'text':
      return { type: 'text_delta', text };
    case 'call':
      return { type: 'input_json_delta', partial_json: text };
  }
}
