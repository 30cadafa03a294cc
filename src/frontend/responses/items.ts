import * as z from 'zod';
import { CallArguments, MAX_MESSAGES, MAX_PARTS } from '../chat-schema.ts';
import type { TemplateMessage } from '../chat-template.ts';
import { dropNulls } from '../drop-nulls.ts';
import type { OutputItem } from './output.ts';

const Id = z.string().min(1).max(256);
/** What the API gave its own items; a client sends them back as they came. */
const given = { id: Id.optional(), status: z.enum(['completed', 'incomplete', 'in_progress']).optional() };

const InputText = z.strictObject({
  type: z.literal('input_text', 'only parts of type "input_text" can be read here'),
  text: z.string(),
});
const OutputText = z.strictObject({
  type: z.literal('output_text', 'only parts of type "output_text" can be read here'),
  text: z.string(),
  annotations: z.array(z.never()).optional(),
  logprobs: z.array(z.unknown()).optional(),
  // A copy that the official client's helpers add.
  parsed: z.unknown().optional(),
});

function textOf<T extends { readonly text: string }>(part: z.ZodType<T>) {
  const parts = z.array(part).max(MAX_PARTS);
  const joined = parts.transform((all) => all.map(({ text }) => text).join('\n'));
  return z.union([z.string(), joined], 'must be text or a list of text parts');
}

const message = z.literal('message');
const Item = z.preprocess(
  typed,
  z.discriminatedUnion(
    'type',
    [
      z.discriminatedUnion('role', [
        z.strictObject({
          ...given,
          type: message,
          role: z.enum(['user', 'system', 'developer']),
          content: textOf(InputText),
        }),
        z.strictObject({ ...given, type: message, role: z.literal('assistant'), content: textOf(OutputText) }),
      ]),
      z.strictObject({
        ...given,
        type: z.literal('function_call'),
        call_id: Id,
        name: Id,
        arguments: CallArguments,
        parsed_arguments: z.unknown().optional(),
      }),
      z.strictObject({
        ...given,
        type: z.literal('function_call_output'),
        call_id: Id,
        output: textOf(InputText),
      }),
      z.strictObject({
        ...given,
        type: z.literal('reasoning'),
        // Summaries are of another server's making.
        summary: z.array(z.never()).optional(),
        content: z.array(z.strictObject({ type: z.literal('reasoning_text'), text: z.string() })).max(MAX_PARTS),
      }),
    ],
    'only items of type "message", "function_call", "function_call_output" and "reasoning" can be read here',
  ),
);
/** One item of a conversation, as a client sends it and as it is kept. */
export type Item = z.infer<typeof Item>;

/** `input`: items, or the text of one message. */
export const Input = z.union(
  [
    z.string().transform((content): Item[] => [{ type: 'message', role: 'user', content }]),
    z.array(Item).min(1).max(MAX_MESSAGES),
  ],
  'must be text or a list of items',
);

/** Messages may come without their type. */
function typed(value: unknown): unknown {
  const item = dropNulls(value);
  const bare = typeof item === 'object' && item !== null && 'role' in item && !('type' in item);
  return bare ? { ...item, type: 'message' } : item;
}

/** Items of an answer as they are kept. A call that was cut off is left out: nobody could answer it. */
export function answered(output: readonly OutputItem[]): Item[] {
  return output.flatMap((item): Item[] => {
    if (item.type === 'reasoning') return [{ type: item.type, content: [...item.content] }];
    if (item.type === 'message')
      return [{ type: item.type, role: item.role, content: item.content.map(({ text }) => text).join('') }];
    if (item.status !== 'completed') return [];
    const { type, call_id, name } = item;
    return [{ type, call_id, name, arguments: JSON.parse(item.arguments || '{}') as unknown }];
  });
}

/** An assistant's message that still grows. */
type Turn = {
  role: 'assistant';
  content: string | undefined;
  reasoning_content: string | undefined;
  tool_calls: object[] | undefined;
};

/** Items as the messages of a chat. Reasoning, text and calls of the assistant that follow each other in this order are one message. */
export function chatMessages(items: readonly Item[]): TemplateMessage[] {
  const messages: TemplateMessage[] = [];
  let turn: Turn | null = null;
  /** The assistant's message that the next item goes into: a new one where it already has any of `later`. */
  const open = (later: readonly (keyof Turn)[]): Turn => {
    if (turn === null || later.some((key) => turn?.[key] !== undefined)) {
      turn = { role: 'assistant', content: undefined, reasoning_content: undefined, tool_calls: undefined };
      messages.push(turn);
    }
    return turn;
  };
  for (const item of items) {
    if (item.type === 'reasoning') {
      const text = item.content.map((part) => part.text).join('\n');
      open(['reasoning_content', 'content', 'tool_calls']).reasoning_content = text;
    } else if (item.type === 'function_call') {
      const call = { id: item.call_id, type: 'function', function: { name: item.name, arguments: item.arguments } };
      const into = open([]);
      into.tool_calls = [...(into.tool_calls ?? []), call];
    } else if (item.type === 'message' && item.role === 'assistant') {
      open(['content', 'tool_calls']).content = item.content;
    } else {
      turn = null;
      messages.push(
        item.type === 'message'
          ? { role: item.role, content: item.content }
          : { role: 'tool', content: item.output, tool_call_id: item.call_id },
      );
    }
  }
  // Templates read the text of every message, and take what is there for said.
  return messages.map((message) => ({ ...defined(message), content: message.content ?? '' }));
}

function defined(message: TemplateMessage): TemplateMessage {
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== undefined));
}
