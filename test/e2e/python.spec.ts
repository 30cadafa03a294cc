import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { BROWSER, expect, ROOT, test } from './fixture.ts';
import { installPythonClients } from './python-clients.ts';
import { sharedNode } from './shared-node.ts';

test.use(BROWSER);

let python = '';
test.beforeAll(async () => {
  try {
    python = await installPythonClients();
  } catch (error) {
    const reason = `The tests of the Python client are skipped: ${(error as Error).message}.`;
    console.log(reason);
    test.skip(true, reason);
  }
});
const node = sharedNode();

/** The lines that a program prints; it must end with 0. */
async function printed(program: string, ...args: string[]): Promise<string[]> {
  const env = { ...process.env, OPENAI_BASE_URL: `${node.url}/v1`, PYTHONUTF8: '1' };
  const { stdout } = await promisify(execFile)(python, [path.join(ROOT, program), ...args], { env });
  return stdout.trim().split('\n');
}

test('the official Python client: chat, streams, tools, schemas, logprobs, errors', async () => {
  expect(await printed('test/e2e/python-client.py', `${node.url}/v1`)).toEqual(
    [
      ...['chat', 'streams', 'reasoning', 'tools', 'forced_calls', 'structured_output'],
      ...['completions', 'chat_logprobs', 'seeds', 'errors', 'models_and_ids', 'many_at_once'],
    ].map((name) => `ok ${name}`),
  );
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
