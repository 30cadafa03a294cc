import type { ReasoningParser, ToolCallParser } from '../../config/parser-names.ts';
import { basic } from './basic.ts';
import type { CallFormat } from './call-scanner.ts';
import { deepseekR1 } from './deepseek-r1.ts';
import { granite } from './granite.ts';
import { hermes } from './hermes.ts';
import { jamba } from './jamba.ts';
import { llama3Json } from './llama3-json.ts';
import { mistral } from './mistral.ts';
import { phi4MiniJson } from './phi4-mini-json.ts';
import { pythonic } from './pythonic.ts';
import { qwen3 } from './qwen3.ts';
import { qwen3Coder } from './qwen3-coder.ts';
import type { ThoughtFormat } from './thought.ts';

export const CALL_FORMATS: Readonly<Record<ToolCallParser, CallFormat>> = {
  hermes,
  qwen3_coder: qwen3Coder,
  llama3_json: llama3Json,
  mistral,
  pythonic,
  phi4_mini_json: phi4MiniJson,
  jamba,
};
export const THOUGHT_FORMATS: Readonly<Record<ReasoningParser, ThoughtFormat>> = {
  qwen3,
  deepseek_r1: deepseekR1,
  granite,
  basic,
};

/** How a model's answers are read. */
export interface ModelParsers {
  /** `none`: calls stay text, as was asked for; null: nobody knows how this model writes them. */
  readonly toolCalls: ToolCallParser | 'none' | null;
  /** null = reasoning stays in the answer. */
  readonly reasoning: ReasoningParser | null;
}

/** `--tool-call-parser` and `--reasoning-parser`. */
export interface AskedParsers {
  readonly toolCalls: ToolCallParser | 'auto' | 'none';
  readonly reasoning: ReasoningParser | 'auto' | 'none';
}

/** What stands in the chat templates of models that write a format: all words of a row. The first row that fits counts. */
const CALL_SIGNS: readonly (readonly [readonly string[], ToolCallParser])[] = [
  [['<tool_call>', '<function='], 'qwen3_coder'],
  [['[TOOL_CALLS]'], 'mistral'],
  [['<tool_calls>'], 'jamba'],
  [['functools['], 'phi4_mini_json'],
  [['<|tool|>'], 'phi4_mini_json'],
  [['<tool_call>'], 'hermes'],
  [['func_name1('], 'pythonic'],
  [['<|python_tag|>'], 'llama3_json'],
  [['{"name": function name, "parameters"'], 'llama3_json'],
];
const THOUGHT_SIGNS: readonly (readonly [readonly string[], ReasoningParser])[] = [
  [['think>', '<｜Assistant｜>'], 'deepseek_r1'],
  [['think>', 'enable_thinking'], 'qwen3'],
  [['think>'], 'basic'],
  [['thought process:'], 'granite'],
];

/** The parsers of a model: those that were asked for, else those of what its chat template shows that it writes. */
export function modelParsers(template: string | null, asked: AskedParsers): ModelParsers {
  return {
    toolCalls: asked.toolCalls === 'auto' ? sign(CALL_SIGNS, template) : asked.toolCalls,
    reasoning:
      asked.reasoning === 'auto' ? sign(THOUGHT_SIGNS, template) : asked.reasoning === 'none' ? null : asked.reasoning,
  };
}

function sign<T>(signs: readonly (readonly [readonly string[], T])[], template: string | null): T | null {
  return signs.find(([words]) => words.every((word) => template?.includes(word)))?.[1] ?? null;
}
