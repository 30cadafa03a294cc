/** Formats of tool calls that can be read, by vLLM's names (`--tool-call-parser`). */
export const TOOL_CALL_PARSERS = [
  'hermes',
  'qwen3_coder',
  'llama3_json',
  'mistral',
  'pythonic',
  'phi4_mini_json',
  'jamba',
] as const;
export type ToolCallParser = (typeof TOOL_CALL_PARSERS)[number];

/** Ways to mark reasoning that can be read, by vLLM's and Dynamo's names (`--reasoning-parser`). */
export const REASONING_PARSERS = ['qwen3', 'deepseek_r1', 'granite', 'basic'] as const;
export type ReasoningParser = (typeof REASONING_PARSERS)[number];
