import { BROWSER, expect, test } from './fixture.ts';
import { printedByPython, pythonOrSkip } from './python-clients.ts';
import { sharedNode } from './shared-node.ts';

test.use(BROWSER);

let python = '';
test.beforeAll(async () => {
  python = await pythonOrSkip();
});
const node = sharedNode();
const printed = (program: string, ...args: string[]) => printedByPython(python, program, `${node.url}/v1`, ...args);

const CHECKS = [
  ...['chat', 'streams', 'reasoning', 'tools', 'forced_calls', 'structured_output'],
  ...['completions', 'chat_logprobs', 'seeds', 'errors', 'models_and_ids', 'many_at_once'],
];

test('the official Python client: chat, streams, tools, schemas, logprobs, errors', async () => {
  const lines = await printed('test/e2e/python-client.py', `${node.url}/v1`, ...CHECKS);
  expect(lines).toEqual(CHECKS.map((name) => `ok ${name}`));
});

test('chat.py and structured_output.py: right answers, and the form whatever the model was told', async () => {
  const [chat, structured] = await Promise.all([printed('examples/chat.py'), printed('examples/structured_output.py')]);
  const starts = chat.map((line) => line.split(' ')[0]!);
  expect(starts.indexOf('reasoning')).toBe(1);
  expect(chat[starts.indexOf('answer')]).toContain(`628 + 157 = ${628 + 157}.`);
  expect(chat.at(-1)).toMatch(/^usage +\d+ tokens of prompt, \d+ of answer$/);

  const person = (line: string) => /Person\(name=.*, city='(Lisbon|Oslo|Quito)', age=\d+\)$/.test(line);
  expect(structured[0]).toContain("Person(name='Mia', city='Lisbon', age=41)");
  expect(structured.slice(1, 5).filter((line) => !line.startsWith('told of nobody:') || !person(line))).toEqual([]);
  expect(structured[5]).toMatch(/choice.*: (yes|no)$/);
  expect(structured[6]).toMatch(/regex.*: [A-Z]{2}-\d{4}$/);
  expect(structured).toHaveLength(7);
});
