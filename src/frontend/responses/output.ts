import type { Block, BlockEvent } from '../blocks.ts';
import { callId } from '../choice-message.ts';
import type { chatLogprobs } from '../logprobs.ts';

export type Logprobs = ReturnType<typeof chatLogprobs>['content'];
type Status = 'in_progress' | 'completed' | 'incomplete';

/** An event of a response's stream. */
export interface ResponseEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

const PREFIXES = { reasoning: 'rs', text: 'msg', call: 'fc' } as const;

interface ReasoningText {
  readonly type: 'reasoning_text';
  readonly text: string;
}
interface OutputText {
  readonly type: 'output_text';
  readonly text: string;
  readonly annotations: readonly [];
  readonly logprobs: Logprobs;
}
/** An item of `output`. */
export type OutputItem = { readonly id: string; readonly status: Status } & (
  | { readonly type: 'reasoning'; readonly summary: readonly []; readonly content: readonly ReasoningText[] }
  | { readonly type: 'message'; readonly role: 'assistant'; readonly content: readonly OutputText[] }
  | {
      readonly type: 'function_call';
      readonly call_id: string;
      readonly name: string;
      readonly arguments: string;
    }
);

/** The item that grows. */
interface Growing {
  readonly block: Block;
  readonly id: string;
  readonly callId: string;
  text: string;
}

/** `output` of a response as it grows, and the events that tell of it (without their numbers). */
export class ResponseOutput {
  readonly items: OutputItem[] = [];
  /** Names the items. */
  readonly #name: string;
  #growing: Growing | null = null;
  /** Logprobs of all tokens: where there are any, the answer has one text. */
  readonly #logprobs: Logprobs[number][] = [];
  #told = 0;

  constructor(name: string) {
    this.#name = name;
  }

  *push(events: Iterable<BlockEvent>, logprobs: Logprobs): Generator<ResponseEvent> {
    this.#logprobs.push(...logprobs);
    for (const event of events) {
      if (event.type === 'open') yield* this.#open(event.block);
      else if (this.#growing === null) throw new Error('a part of the answer goes on that did not begin');
      else if (event.type === 'delta') yield this.#delta(this.#growing, event.text);
      else yield* this.#close(this.#growing, event.whole ? 'completed' : 'incomplete');
    }
  }

  *#open(block: Block): Generator<ResponseEvent> {
    const id = `${PREFIXES[block.type]}_${this.#name}-${this.items.length}`;
    const item: Growing = { block, id, callId: callId(), text: '' };
    this.#growing = item;
    const output_index = this.items.length;
    yield { type: 'response.output_item.added', output_index, item: itemOf(item, 'in_progress', null) };
    if (block.type === 'call') return;
    yield { type: 'response.content_part.added', ...place(item, output_index), part: partOf(item, []) };
  }

  #delta(item: Growing, delta: string): ResponseEvent {
    item.text += delta;
    const at = place(item, this.items.length);
    switch (item.block.type) {
      case 'call':
        return { type: 'response.function_call_arguments.delta', ...at, delta };
      case 'reasoning':
        return { type: 'response.reasoning_text.delta', ...at, delta };
      case 'text': {
        const logprobs = this.#logprobs.slice(this.#told);
        this.#told = this.#logprobs.length;
        return { type: 'response.output_text.delta', ...at, delta, logprobs };
      }
    }
  }

  *#close(item: Growing, status: Status): Generator<ResponseEvent> {
    const { block, text } = item;
    const output_index = this.items.length;
    const at = place(item, output_index);
    const logprobs = this.#logprobs;
    if (block.type === 'call') {
      yield { type: 'response.function_call_arguments.done', ...at, name: block.name, arguments: text };
    } else {
      const part = partOf(item, logprobs);
      if (block.type === 'reasoning') yield { type: 'response.reasoning_text.done', ...at, text };
      else yield { type: 'response.output_text.done', ...at, text, logprobs };
      yield { type: 'response.content_part.done', ...at, part };
    }
    const whole = itemOf(item, status, logprobs);
    this.items.push(whole);
    this.#growing = null;
    yield { type: 'response.output_item.done', output_index, item: whole };
  }
}

/** Where an event belongs. Only texts are contents of an item. */
function place({ id, block }: Growing, output_index: number): object {
  return { item_id: id, output_index, ...(block.type === 'call' ? {} : { content_index: 0 }) };
}

const reasoningText = (text: string): ReasoningText => ({ type: 'reasoning_text', text });
const outputText = (text: string, logprobs: Logprobs): OutputText => ({
  type: 'output_text',
  text,
  annotations: [],
  logprobs,
});

function partOf({ block, text }: Growing, logprobs: Logprobs): ReasoningText | OutputText {
  return block.type === 'reasoning' ? reasoningText(text) : outputText(text, logprobs);
}

/** `logprobs`: of its text; null = its content is not there yet. */
function itemOf({ block, id, callId: call_id, text }: Growing, status: Status, logprobs: Logprobs | null): OutputItem {
  switch (block.type) {
    case 'reasoning':
      return { type: 'reasoning', id, summary: [], content: logprobs === null ? [] : [reasoningText(text)], status };
    case 'text': {
      const content = logprobs === null ? [] : [outputText(text, logprobs)];
      return { type: 'message', id, role: 'assistant', content, status };
    }
    case 'call':
      return { type: 'function_call', id, call_id, name: block.name, arguments: text, status };
  }
}
