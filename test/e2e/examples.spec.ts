import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { BROWSER, expect, ROOT, test } from './fixture.ts';
import { printedByPython, pythonOrSkip } from './python-clients.ts';
import { sharedNode } from './shared-node.ts';

test.use(BROWSER);

const FOLDER = path.join(ROOT, 'examples');
const node = sharedNode();

/** What a program of `examples/` prints, in lines; it must end with 0. */
async function printed(program: string, { url } = node): Promise<string[]> {
  const env = { ...process.env, OPENAI_BASE_URL: `${url}/v1` };
  const { stdout } = await promisify(execFile)(process.execPath, [path.join(FOLDER, program)], { env });
  return stdout.trim().split('\n');
}

/** What the README of the folder says that a program prints: the first block after its name. */
function promised(program: string): string[] {
  const readme = readFileSync(path.join(FOLDER, 'README.md'), 'utf8');
  const block = new RegExp(`\`${program}\`.*?\`\`\`text\n(.*?)\n\`\`\``, 's').exec(readme);
  if (!block) throw new Error(`examples/README.md has no text block for ${program}`);
  return block[1]!.split('\n');
}

/** A line without what is another at each run: its numbers. */
const shape = (line: string) => line.replaceAll(/\d+(\.\d+)?/g, 'N');

test('every program of the folder is tried here, and told of in its README', () => {
  const tried = ['chat.mjs', 'embeddings.mjs', 'many-clients.mjs', 'structured-output.mjs', 'tools-loop.mjs'];
  expect(readdirSync(FOLDER).filter((name) => name.endsWith('.mjs'))).toEqual(tried);
  for (const program of tried) expect(promised(program).length).toBeGreaterThan(1);
});

test('chat.mjs: the reasoning comes before the answer, and the answer is right', async () => {
  const lines = await printed('chat.mjs');
  expect(lines).toEqual(promised('chat.mjs'));
  const [, a, b] = /^question +What is (\d+) \+ (\d+)\?$/.exec(lines[0]!)!;
  const starts = lines.map((line) => line.split(' ')[0]!);
  expect(starts.indexOf('reasoning')).toBe(1);
  expect(lines[starts.indexOf('answer')]).toContain(`${a} + ${b} = ${Number(a) + Number(b)}.`);
});

test('tools-loop.mjs: calls are run, and their results are in the answers', async () => {
  const lines = await printed('tools-loop.mjs');
  expect(lines).toEqual(promised('tools-loop.mjs'));
  expect(lines.map((line) => line.split(' ')[0])).toEqual([
    ...['user', 'assistant', 'tool', 'assistant'],
    ...['user', 'assistant', 'tool', 'assistant'],
  ]);
  const results = lines.filter((line) => line.startsWith('tool')).map((line) => JSON.parse(line.slice(4)));
  expect(lines[3]).toContain(`${results[0].weather} in Lisbon, with ${results[0].temperature} degrees`);
  expect(lines[7]).toContain(`is ${300 + 516}.`);
});

test('structured-output.mjs: what the model was told, and the form whatever it was told', async () => {
  const lines = await printed('structured-output.mjs');
  const promise = promised('structured-output.mjs');
  const person = z.strictObject({ name: z.string(), city: z.enum(['Lisbon', 'Oslo', 'Quito']), age: z.int().min(0) });
  const named = (start: string) => lines.filter((line) => line.startsWith(start));
  const values = (start: string) => named(start).map((line) => person.parse(JSON.parse(line.slice(start.length))));
  expect(values('told of Mia:')).toEqual([{ name: 'Mia', city: 'Lisbon', age: 41 }]);
  expect(values('told of nobody:')).toHaveLength(4);
  expect(named('{"choice":["yes","no"]}: ')[0]).toMatch(/: (yes|no)$/);
  expect(named('{"regex":"[A-Z]{2}-[0-9]{4}"}: ')[0]).toMatch(/: [A-Z]{2}-\d{4}$/);
  const beginning = (line: string) => line.slice(0, line.indexOf(': ') + 2);
  expect(lines.map(beginning)).toEqual(promise.map(beginning));
});

test('many-clients.mjs: 32 answers come of steps that compute many at once', async () => {
  const lines = await printed('many-clients.mjs');
  expect(lines.map(shape)).toEqual(promised('many-clients.mjs').map(shape));
  const [answers, tokens] = lines[0]!.match(/\d+/g)!.map(Number);
  expect(answers).toBe(32);
  expect(tokens).toBeGreaterThan(32 * 12);
  const [steps, batch] = lines[1]!.match(/\d+(\.\d+)?/g)!.map(Number);
  // A step for each token of one answer after the other would be as many steps as tokens.
  expect(steps).toBeLessThan(tokens! / 4);
  expect(batch).toBeGreaterThan(4);
});

test.describe('a model for embeddings', () => {
  const pooling = sharedNode({ pooler: { runner: 'pooling', config: {} } });

  test('embeddings.mjs: the nearest come first, and nearest is what differs in a word', async () => {
    const lines = await printed('embeddings.mjs', pooling);
    expect(lines.map(shape)).toEqual(promised('embeddings.mjs').map(shape));
    const ranked = lines.slice(2).map((line) => Number(line.split(' ')[0]));
    expect(ranked).toEqual(ranked.toSorted((a, b) => b - a));
    expect(ranked.every((near) => near > -1 && near < 1)).toBe(true);
    expect(lines[2]).toContain('Where does Nora live?');
  });

  test('the official Python client reads them', async () => {
    const api = `${pooling.url}/v1`;
    const lines = await printedByPython(await pythonOrSkip(), 'test/e2e/python-client.py', api, api, 'embeddings');
    expect(lines).toEqual(['ok embeddings']);
  });
});
