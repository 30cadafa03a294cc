import type { ToolCallParser } from '../../../../src/config/parser-names.ts';
import type { Tools } from '../../../../src/frontend/parsers/call-scanner.ts';

export interface Call {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** How a model of each format writes calls, from the formats' public descriptions; and what looks like its calls, but is none. */
export interface Writer {
  write(calls: readonly Call[]): string;
  /** Without a marker nothing but the beginning of an answer is a call. */
  readonly onlyFirst?: true;
  readonly lookalikes: readonly string[];
}

const named = ({ name, arguments: args }: Call) => JSON.stringify({ name, arguments: args });

/** Values as Qwen3-Coder's template writes them: texts bare, all else as JSON. */
const bare = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));

export function python(value: unknown): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map(python).join(', ')}]`;
  if (typeof value === 'object')
    return `{${Object.entries(value)
      .map(([key, each]) => `${python(key)}: ${python(each)}`)
      .join(', ')}}`;
  // Python's repr prefers single quotes.
  if (typeof value === 'string') return `'${value.replace(/[\\']/g, '\\$&').replaceAll('\n', '\\n')}'`;
  return String(value);
}

/** The tools that requests of these tests have. */
export const TOOLS: Tools = new Map<string, unknown>(
  ['get_weather', 'search', 'now'].map((name) => [
    name,
    {
      type: 'object',
      properties: {
        text: { type: 'string' },
        number: { type: 'number' },
        whole: { type: ['integer', 'null'] },
        flag: { type: 'boolean' },
        list: { type: 'array' },
        object: { anyOf: [{ type: 'object' }, { type: 'null' }] },
      },
    },
  ]),
);

export const WRITERS: Readonly<Record<ToolCallParser, Writer>> = {
  hermes: {
    write: (calls) => calls.map((call) => `<tool_call>\n${named(call)}\n</tool_call>`).join('\n'),
    lookalikes: [
      'Write <tool_call> and then the call.',
      '<tool_call>',
      '<tool_call>\n</tool_call>',
      '<tool_call>\n{"name": "now"}\n</tool_call>',
      '<tool_call>{"name": "now", "arguments": "none"}</tool_call>',
      '<tool_call>{"name": "", "arguments": {}}</tool_call>',
      '<tool_call>{"arguments": {}}</tool_call>',
      "<tool_call>{'name': 'now', 'arguments': {}}</tool_call>",
      '<tool_call><tool_call><tool_cal',
      '{"name": "now", "arguments": {}}',
    ],
  },
  qwen3_coder: {
    write: (calls) =>
      calls
        .map(({ name, arguments: args }) => {
          const parameters = Object.entries(args).map(
            ([key, value]) => `<parameter=${key}>\n${bare(value)}\n</parameter>\n`,
          );
          return `<tool_call>\n<function=${name}>\n${parameters.join('')}</function>\n</tool_call>`;
        })
        .join('\n'),
    lookalikes: [
      '<tool_call>\n<function>now</function>\n</tool_call>',
      '<tool_call>{"name": "now", "arguments": {}}</tool_call>',
      '<function=unknown>\n</function>',
      '<function=now and more',
      '<tool_call>\n<function=now> calls it',
    ],
  },
  llama3_json: {
    write: (calls) => calls.map(({ name, arguments: parameters }) => JSON.stringify({ name, parameters })).join('; '),
    onlyFirst: true,
    lookalikes: [
      '{"name": "Ada", "parameters": {"age": 36}}',
      '{"name": "now"}',
      '{"city": "Bern"}',
      'So: {"name": "now", "parameters": {}}',
      '<|python_tag|>search.call(query="x")',
      '{"name": "now", "parameters": []}',
    ],
  },
  mistral: {
    write: (calls) => `[TOOL_CALLS][${calls.map(named).join(', ')}]`,
    lookalikes: [
      '[TOOL_CALLS]',
      '[TOOL_CALLS] now',
      '[TOOL_CALLS][]',
      '[TOOL_CALLS]{}',
      '[TOOL_CALLS]two words{}',
      '[{}]',
    ],
  },
  pythonic: {
    write: (calls) =>
      `[${calls
        .map(({ name, arguments: args }) => {
          const list = Object.entries(args).map(([key, value]) => `${key}=${python(value)}`);
          return `${name}(${list.join(', ')})`;
        })
        .join(', ')}]`,
    onlyFirst: true,
    lookalikes: [
      '[1, 2, 3]',
      '[x(1)]',
      '[now]',
      '[print(text="x")]',
      'See [now()]',
      '[]',
      '[now(3)]',
      '[now',
      '[now(text',
    ],
  },
  phi4_mini_json: {
    write: (calls) => `functools[${calls.map(named).join(', ')}]`,
    lookalikes: [
      'Import functools, then go on.',
      'functools[0]',
      'functools[{"name": "now"}]',
      'functools[]',
      'functool',
    ],
  },
  jamba: {
    write: (calls) => `<tool_calls>[\n${calls.map(named).join(',\n')}\n]</tool_calls>`,
    lookalikes: ['<tool_calls>', '<tool_calls>[]</tool_calls>', '<tool_calls>[1]</tool_calls>', '<tool_call>'],
  },
};
