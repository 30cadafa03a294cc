import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { DEFAULT_CANARY, readCanaryPayload } from '../../../src/hub/health/payload.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'canary-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('no payload is one token from what the model begins with', () => {
  expect(readCanaryPayload(null)).toEqual(DEFAULT_CANARY);
  expect(DEFAULT_CANARY).toEqual({ prompt: null, maxTokens: 1, temperature: 0 });
});

test('takes the form of Dynamo’s workers, and that of a completion', () => {
  expect(readCanaryPayload('{"token_ids":[5,6],"stop_conditions":{"max_tokens":3,"ignore_eos":true}}')).toEqual({
    prompt: [5, 6],
    maxTokens: 3,
    temperature: 0,
  });
  expect(readCanaryPayload('{"token_ids":[5],"sampling_options":{"temperature":0.5}}').temperature).toBe(0.5);
  expect(readCanaryPayload(' {"prompt":"Hi","max_tokens":2}')).toEqual({ prompt: 'Hi', maxTokens: 2, temperature: 0 });
});

test('takes a file, with Dynamo’s @ and without', () => {
  const file = path.join(folder, 'payload.json');
  writeFileSync(file, '{"prompt":[7]}');
  for (const text of [file, `@${file}`]) expect(readCanaryPayload(text).prompt).toEqual([7]);
});

test.each([
  ['{"prompt":', /no JSON/],
  ['/there/is/no/such.json', /such\.json: .*no file with JSON/],
  ['{"prompt":"Hi","max_tokens":0}', /max_tokens/],
  ['{"prompt":"Hi","tokens":5}', /tokens/],
  ['{"token_ids":[]}', /token_ids/],
  ['{}', /token_ids/],
])('refuses %s in one line that says what to write', (text, why) => {
  expect(() => readCanaryPayload(text)).toThrow(why);
  expect(() => readCanaryPayload(text)).not.toThrow(/\n/);
});
