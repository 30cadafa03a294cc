import type { ServedModel } from './backend.ts';
import type { ChatRequest } from './chat-schema.ts';
import { badRequest } from './errors.ts';
import { type CallFormat, callParser, type Tools } from './parsers/call-scanner.ts';
import { namedCall, requiredCalls } from './parsers/forced-calls.ts';
import { CALL_FORMATS, THOUGHT_FORMATS } from './parsers/model-parsers.ts';
import { OutputParser } from './parsers/output-parser.ts';
import { promptThought, thoughtParser } from './parsers/thought.ts';
import { ReasoningTokens } from './reasoning-tokens.ts';

/** How the answers to one request are read. */
export interface ChatReading {
  /** Of one choice. */
  parser(): OutputParser;
  /** Counts the tokens of one choice; null where marks of reasoning are no tokens, so that nobody can say. */
  counter(): ReasoningTokens | null;
  /** Marks that are special tokens, which the parser must see. */
  readonly shownTokenIds: ReadonlySet<number>;
  /** The answer begins within reasoning. */
  readonly begun: boolean;
}

/** What reads the answers to `request`, whose prompt is `prompt`. Throws `ApiError` 400 for tools whose calls nobody could read. */
export function chatReading(request: ChatRequest, prompt: string, model: ServedModel): ChatReading {
  const format = callFormat(request, model);
  const tools: Tools = new Map(request.tools?.map((tool) => [tool.function.name, tool.function.parameters]));
  const thought = model.parsers.reasoning === null ? null : THOUGHT_FORMATS[model.parsers.reasoning];
  const continued = request.continue_final_message === true ? String(request.messages.at(-1)?.content) : null;
  const start = thought === null ? 'unsaid' : promptThought(thought, prompt, continued);
  const ids = (texts: readonly string[]) => model.tokenizer?.tokenIds(texts) ?? new Set<number>();
  const ends = ids(thought?.ends ?? []);
  const begun = thought !== null && (start === 'open' || (thought.assumed && start === 'unsaid'));
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
        : new ReasoningTokens({ starts: ids(thought.starts), ends, begun }, model.tokenizer),
    begun,
    shownTokenIds: ids([...(format?.special ?? []), ...(thought?.starts ?? []), ...(thought?.ends ?? [])]),
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
