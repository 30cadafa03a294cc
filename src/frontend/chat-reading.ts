import type { Thought } from '../protocol/generate.ts';
import type { ServedModel } from './backend.ts';
import type { ChatRequest } from './chat-schema.ts';
import { badRequest } from './errors.ts';
import { type CallFormat, callParser, type Tools } from './parsers/call-scanner.ts';
import { namedCall, requiredCalls } from './parsers/forced-calls.ts';
import { CALL_FORMATS, THOUGHT_FORMATS } from './parsers/model-parsers.ts';
import { OutputParser } from './parsers/output-parser.ts';
import { promptThought, thoughtParser } from './parsers/thought.ts';
import { ReasoningTokens } from './reasoning-tokens.ts';
import { beginsWithThought, thoughtBefore } from './thought-before.ts';

/** How the answers to one request are read. */
export interface ChatReading {
  /** Of one choice. */
  parser(): OutputParser;
  /** Counts the tokens of one choice; null where marks of reasoning are no tokens, so that nobody can say. */
  counter(): ReasoningTokens | null;
  /** Marks that are special tokens, which the parser must see. */
  readonly shownTokenIds: ReadonlySet<number>;
  /** Reasoning that comes, or may come, before what a grammar holds; null = the grammar begins with the answer. */
  readonly thought: Thought | null;
}

/**
 * What reads the answers to `request`, whose prompt is `prompt`. `held`: what follows the reasoning is held to a grammar. Throws `ApiError` 400 for
 * tools whose calls nobody could read, and where nobody could tell from its tokens when the reasoning before a grammar ends.
 */
export function chatReading(request: ChatRequest, prompt: string, model: ServedModel, held: boolean): ChatReading {
  const format = callFormat(request, model);
  const tools: Tools = new Map(request.tools?.map((tool) => [tool.function.name, tool.function.parameters]));
  const written = model.parsers.reasoning === null ? null : THOUGHT_FORMATS[model.parsers.reasoning];
  // Before a grammar reasoning ends with its mark and nothing else: what follows that is held.
  const thought = written && held ? { ...written, cutBy: [] } : written;
  const continued = request.continue_final_message === true ? String(request.messages.at(-1)?.content) : null;
  const start = thought === null ? 'unsaid' : promptThought(thought, prompt, continued);
  const ids = (texts: readonly string[]) => model.tokenizer?.tokenIds(texts) ?? new Set<number>();
  const [starts, ends] = [ids(thought?.starts ?? []), ids(thought?.ends ?? [])];
  const begun = thought !== null && beginsWithThought(thought, start);
  const chooses = request.chat_template_kwargs?.enable_thinking !== false;
  return {
    parser: () =>
      new OutputParser({
        thought: thought === null ? null : thoughtParser(thought, start),
        calls: format === null ? null : callParser(format, tools),
        showThought: request.include_reasoning ?? true,
        parallel: request.parallel_tool_calls ?? true,
      }),
    counter: () =>
      thought === null || model.tokenizer === null || ends.size === 0
        ? null
        : new ReasoningTokens({ starts, ends, begun }, model.tokenizer),
    thought: thought !== null && held ? thoughtBefore(thought, start, chooses, model.tokenizer) : null,
    shownTokenIds: new Set([...ids(format?.special ?? []), ...starts, ...ends]),
  };
}

/** How the request's calls are written; null = there are none. The one place that knows of forced ones. */
function callFormat({ tools = [], tool_choice: choice }: ChatRequest, model: ServedModel): CallFormat | null {
  if (tools.length === 0 || choice === 'none') return null;
  if (choice === 'required') return requiredCalls;
  if (typeof choice === 'object') return namedCall(choice.function.name);
  const { toolCalls } = model.parsers;
  if (toolCalls !== null) return toolCalls === 'none' ? null : CALL_FORMATS[toolCalls];
  throw badRequest(
    'It is not known how this model writes tool calls. Start the server with --tool-call-parser, or send \'tool_choice\': "none".',
    'tools',
  );
}
