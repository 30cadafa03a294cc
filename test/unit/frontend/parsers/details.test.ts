import { describe, expect, test } from 'vitest';
import type { ToolCallParser } from '../../../../src/config/parser-names.ts';
import { callParser } from '../../../../src/frontend/parsers/call-scanner.ts';
import { namedCall, requiredCalls } from '../../../../src/frontend/parsers/forced-calls.ts';
import { CALL_FORMATS, modelParsers } from '../../../../src/frontend/parsers/model-parsers.ts';
import { OutputParser } from '../../../../src/frontend/parsers/output-parser.ts';
import { TOOLS } from './formats.ts';
import { read, units } from './read.ts';

const calls = (name: ToolCallParser, text: string) => read(callParser(CALL_FORMATS[name], TOOLS), units(text));
const call = (name: string, args: string) => ({ name, arguments: args, whole: true });

describe('what models write beside the usual', () => {
  test('keys in any order, and keys that say nothing', () => {
    const text =
      '<tool_call>{"type": "function", "arguments": {"a": [1, {"b": "}"}]}, "id": 7, "name": "f"}</tool_call>';
    expect(calls('hermes', text)).toEqual({ text: '', reasoning: '', calls: [call('f', '{"a": [1, {"b": "}"}]}')] });
  });

  test('line breaks inside of strings become escapes', () => {
    const { calls: found } = calls('hermes', '<tool_call>{"name": "f", "arguments": {"a": "x\ny\t"}}</tool_call>');
    expect(JSON.parse(found[0]?.arguments ?? '')).toEqual({ a: 'x\ny\t' });
  });

  test('a call that goes wrong in the middle is not whole, and the rest is text', () => {
    const found = calls('hermes', '<tool_call>{"name": "f", "arguments": {"a": oops}}</tool_call>');
    expect(found.calls).toEqual([{ name: 'f', arguments: '{"a": ', whole: false }]);
    expect(found.text).toBe('oops}}</tool_call>');
  });

  test('a call without its end mark is whole', () => {
    expect(calls('hermes', 'Now: <tool_call>{"name": "f", "arguments": {}}')).toEqual({
      text: 'Now: ',
      reasoning: '',
      calls: [call('f', '{}')],
    });
  });

  test.each([
    ['[TOOL_CALLS]add{"a": 1}[TOOL_CALLS]mul{"b": {}}', [call('add', '{"a": 1}'), call('mul', '{"b": {}}')]],
    ['[TOOL_CALLS]add[ARGS]{"a": 1}', [call('add', '{"a": 1}')]],
    ['[TOOL_CALLS]add[CALL_ID]abcDEF123[ARGS]{"a": 1}', [call('add', '{"a": 1}')]],
    ['[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "abcDEF123"}]', [call('add', '{"a": 1}')]],
  ])('mistral: %s', (text, expected) => {
    expect(calls('mistral', text)).toEqual({ text: '', reasoning: '', calls: expected });
  });

  test.each([
    ['<|python_tag|>{"name": "any", "parameters": {"a": 1}}', [call('any', '{"a": 1}')]],
    ['{"type": "function", "name": "now", "parameters": {}}', [call('now', '{}')]],
    ['\n{"name": "now", "arguments": {}}', [call('now', '{}')]],
  ])('llama3_json: %s', (text, expected) => {
    expect(calls('llama3_json', text).calls).toEqual(expected);
  });

  test.each([
    [
      `[search(text="it's", list=(1, 2.50, -.5, +3, 1_000, 5.), flag=True, object={"a": None, 'b': [],},)]`,
      '{"text": "it\'s", "list": [1, 2.50, -0.5, 3, 1000, 5], "flag": true, "object": {"a": null, "b": []}}',
    ],
    [String.raw`[search(text='\x41\u00e9\U0001f389\n\'\q\101')]`, '{"text": "Aé🎉\\n\'\\\\qA"}'],
    ['[now( )]', null],
  ])('pythonic: %s', (text, expected) => {
    expect(calls('pythonic', text).calls.map((each) => each.arguments)).toEqual([expected ?? '{}']);
  });

  test.each([
    ['text', ' two\nlines "quoted" ', '{"text": " two\\nlines \\"quoted\\" "}'],
    ['text', '12', '{"text": "12"}'],
    ['text', 'null', '{"text": "null"}'],
    ['number', '12.5', '{"number": 12.5}'],
    ['number', 'twelve', '{"number": "twelve"}'],
    ['whole', 'None', '{"whole": null}'],
    ['flag', 'True', '{"flag": true}'],
    ['flag', 'yes', '{"flag": "yes"}'],
    ['list', "['a', 1]", '{"list": ["a", 1]}'],
    ['object', '{"a": {"b": 1}}', '{"object": {"a": {"b": 1}}}'],
    ['unheard', '12', '{"unheard": "12"}'],
  ])('qwen3_coder reads values by their schema: %s %j', (key, value, expected) => {
    const text = `<tool_call>\n<function=search>\n<parameter=${key}>\n${value}\n</parameter>\n</function>\n</tool_call>`;
    expect(calls('qwen3_coder', text).calls).toEqual([call('search', expected)]);
  });

  test('qwen3_coder without its outer mark: only of tools that there are', () => {
    expect(calls('qwen3_coder', '<function=now>\n</function>').calls).toEqual([call('now', '{}')]);
  });
});

describe('bounds', () => {
  test('what waits for a name too long is text', () => {
    const text = `<tool_call>{"arguments": {"a": "${'x'.repeat(20_000)}"}, "name": "f"}</tool_call>`;
    const parser = callParser(CALL_FORMATS.hermes, TOOLS);
    const early = parser.push(text.slice(0, 18_000));
    expect(early).not.toEqual([]);
    expect(read(callParser(CALL_FORMATS.hermes, TOOLS), [text])).toEqual({ text, reasoning: '', calls: [] });
  });

  test('deep nesting and long names are no calls', () => {
    const deep = `<tool_call>{"name": "f", "x": ${'['.repeat(65)}`;
    expect(calls('hermes', deep)).toEqual({ text: deep, reasoning: '', calls: [] });
    const long = `<tool_call>{"name": "${'n'.repeat(300)}", "arguments": {}}</tool_call>`;
    expect(calls('hermes', long)).toEqual({ text: long, reasoning: '', calls: [] });
  });

  test('marks that never become calls cost no more than their length', () => {
    const text = '<tool_call>{"arguments": {"a": '.repeat(20_000);
    expect(read(callParser(CALL_FORMATS.hermes, TOOLS), [text]).text).toBe(text);
  });
});

describe('forced calls', () => {
  test('required: a list of calls', () => {
    const text = '[{"name": "now", "parameters": {}}, {"name": "search", "parameters": {"text": "x"}}]';
    expect(read(callParser(requiredCalls, TOOLS), units(text)).calls).toEqual([
      call('now', '{}'),
      call('search', '{"text": "x"}'),
    ]);
  });

  test('named: the arguments alone', () => {
    const found = read(callParser(namedCall('search'), TOOLS), units('{"text": "x"}'));
    expect(found).toEqual({ text: '', reasoning: '', calls: [call('search', '{"text": "x"}')] });
  });
});

describe('an answer', () => {
  const output = (parallel = true) =>
    new OutputParser({ thought: null, showThought: true, calls: callParser(CALL_FORMATS.hermes, TOOLS), parallel });
  const one = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>';

  test('whitespace around calls is no text', () => {
    expect(read(output(), units(`\n\n${one}\n${one}\n`))).toMatchObject({ text: '', calls: [{}, {}] });
    expect(read(output(), units(`Well.\n\n${one}\n`))).toMatchObject({ text: 'Well.', calls: [{}] });
  });

  test('whitespace without calls stays', () => {
    const text = '\n Well.  Yes. \n\n';
    expect(read(output(), units(text))).toMatchObject({ text, calls: [] });
  });

  test('without parallel calls the first stays', () => {
    const parser = output(false);
    expect(read(parser, [`${one}\n${one}`]).calls).toEqual([call('now', '{}')]);
    expect(parser.called).toBe(true);
  });

  test('a call that is broken off is no whole one', () => {
    const parser = output();
    read(parser, [`${one}\n<tool_call>{"name": "now", "arguments": {`]);
    expect(parser.called).toBe(false);
    const first = output(false);
    read(first, [`${one}\n<tool_call>{"name": "now", "arguments": {`]);
    expect(first.called).toBe(true);
  });
});

describe('the parsers of a model', () => {
  const auto = { toolCalls: 'auto', reasoning: 'auto' } as const;
  test.each([
    ["{{ '<tool_call>' }} {{ enable_thinking }} <think>", 'hermes', 'qwen3'],
    ["{{ '<tool_call>\n<function=' }} <think>", 'qwen3_coder', 'basic'],
    ["{{ '[TOOL_CALLS]' }}", 'mistral', null],
    ['{"name": function name, "parameters": dictionary of argument name and its value}', 'llama3_json', null],
    ['[func_name1(params_name1=params_value1)]', 'pythonic', null],
    ["{{ '<|tool|>' }}", 'phi4_mini_json', null],
    ["{{ '<tool_calls>' }}", 'jamba', null],
    ["{{ '<｜Assistant｜><think>' }}", null, 'deepseek_r1'],
    ["Write your thoughts after 'Here is my thought process:'", null, 'granite'],
    ['{{ messages }}', null, null],
    [null, null, null],
  ])('%s', (template, toolCalls, reasoning) => {
    expect(modelParsers(template, auto)).toEqual({ toolCalls, reasoning });
  });

  test('what was asked for wins', () => {
    const template = '<tool_call><think>';
    expect(modelParsers(template, { toolCalls: 'jamba', reasoning: 'none' })).toEqual({
      toolCalls: 'jamba',
      reasoning: null,
    });
  });
});
