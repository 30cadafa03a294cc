import * as z from 'zod';
import { MAX_MESSAGES, MAX_PARTS } from '../chat-schema.ts';
import type { TemplateMessage } from '../chat-template.ts';
import { dropNulls } from '../drop-nulls.ts';

const Id = z.string().min(1).max(256);

/** Where a client would like a prefix to be cached; each node keeps all that it has room for. */
export const CacheControl = z.strictObject({ type: z.literal('ephemeral'), ttl: z.enum(['5m', '1h']).optional() });
const cached = { cache_control: CacheControl.optional() };

const blockOf = <T extends z.core.$ZodLooseShape>(shape: T) => z.strictObject({ ...shape, ...cached });
const TextBlock = blockOf({
  type: z.literal('text', 'only blocks of type "text" can be read here'),
  text: z.string(),
  citations: z.array(z.never()).optional(),
});
const text = z.preprocess(dropNulls, TextBlock);
const ToolResult = blockOf({
  type: z.literal('tool_result'),
  tool_use_id: Id,
  content: z.union([z.string(), z.array(text).max(MAX_PARTS)], 'must be text or a list of text blocks').default(''),
  // The content tells the model of it.
  is_error: z.boolean().optional(),
});
const ToolUse = blockOf({
  type: z.literal('tool_use'),
  id: Id,
  name: Id,
  input: z.record(z.string(), z.unknown()),
  caller: z.strictObject({ type: z.literal('direct') }).optional(),
});
const Thinking = z.strictObject({
  type: z.literal('thinking'),
  thinking: z.string(),
  signature: z.string().optional(),
});

const contentOf = <T extends readonly [z.core.$ZodTypeDiscriminable, ...z.core.$ZodTypeDiscriminable[]]>(
  blocks: T,
  types: string,
) =>
  z.union(
    [
      z.string(),
      z
        .array(
          z.preprocess(dropNulls, z.discriminatedUnion('type', blocks, `only blocks of ${types} can be read here`)),
        )
        .max(MAX_PARTS),
    ],
    'must be text or a list of blocks',
  );

/** `system`: text, or blocks of it, which line breaks join. */
export const SystemText = z.union(
  [
    z.string(),
    z
      .array(text)
      .max(MAX_PARTS)
      .transform((blocks) => joined(blocks)),
  ],
  'must be text or a list of text blocks',
);

const Turn = z.discriminatedUnion('role', [
  z.strictObject({ role: z.literal('system'), content: SystemText }),
  z.strictObject({
    role: z.literal('user'),
    content: contentOf([TextBlock, ToolResult], 'type "text" and "tool_result"'),
  }),
  z.strictObject({
    role: z.literal('assistant'),
    content: contentOf([TextBlock, Thinking, ToolUse], 'type "text", "thinking" and "tool_use"'),
  }),
]);
export type Turn = z.infer<typeof Turn>;
type Blocks<T extends Turn['role']> = Exclude<Extract<Turn, { role: T }>['content'], string>;

/** `messages` of a request. */
export const Turns = z.array(Turn).min(1).max(MAX_MESSAGES);

/** Turns as the messages of a chat: results of tools are messages of their own, calls and reasoning belong to the assistant's. */
export function chatMessages(turns: readonly Turn[]): TemplateMessage[] {
  return turns.flatMap((turn): TemplateMessage[] => {
    if (typeof turn.content === 'string') return [{ role: turn.role, content: turn.content }];
    return turn.role === 'assistant' ? [assistantMessage(turn.content)] : userMessages(turn.content as Blocks<'user'>);
  });
}

/** Whether the model shall go on with the last turn. */
export function isContinued(turns: readonly Turn[]): boolean {
  return turns.at(-1)?.role === 'assistant';
}

function assistantMessage(blocks: Blocks<'assistant'>): TemplateMessage {
  const thoughts = blocks.flatMap((block) => (block.type === 'thinking' ? [block.thinking] : []));
  const calls = blocks.flatMap((block) =>
    block.type === 'tool_use'
      ? [{ id: block.id, type: 'function', function: { name: block.name, arguments: block.input } }]
      : [],
  );
  return {
    role: 'assistant',
    content: joined(blocks.filter((block) => block.type === 'text')),
    ...(thoughts.length === 0 ? {} : { reasoning_content: thoughts.join('\n') }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function userMessages(blocks: Blocks<'user'>): TemplateMessage[] {
  const messages: { role: string; content: string; tool_call_id?: string }[] = [];
  for (const block of blocks) {
    const last = messages.at(-1);
    if (block.type === 'tool_result') {
      const content = typeof block.content === 'string' ? block.content : joined(block.content);
      messages.push({ role: 'tool', content, tool_call_id: block.tool_use_id });
    } else if (last?.role === 'user') {
      last.content += `\n${block.text}`;
    } else {
      messages.push({ role: 'user', content: block.text });
    }
  }
  return messages;
}

function joined(blocks: readonly { readonly text: string }[]): string {
  return blocks.map((block) => block.text).join('\n');
}
