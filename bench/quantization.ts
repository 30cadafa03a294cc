import { readFileSync } from 'node:fs';
import type { ModelFiles } from '../src/engine/files/source.ts';
import type { TemplateMessage } from '../src/frontend/chat-template.ts';
import { type ChatTokenizer, loadChatTokenizer } from '../src/frontend/tokenizer.ts';
import { PICO, reference, TestEngine, type TestEngineOptions } from '../test/gpu/test-engine.ts';
import { convertFolder } from '../test/support/convert-gguf.ts';
import { memoryFiles } from '../test/support/folder-files.ts';
import type { StoredType } from '../test/support/ggml-types.ts';
import { ggufFile } from '../test/support/gguf-file.ts';
import { table } from './table.ts';

interface Skill {
  readonly messages: readonly TemplateMessage[];
  readonly tools?: readonly unknown[];
  readonly enable_thinking?: boolean;
  readonly answer: string;
}

const json = (path: string): unknown => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
const MAX_TOKENS = 140;
const EOS = [2, 0];

const gguf = (type: StoredType): ModelFiles => memoryFiles({ 'model.gguf': ggufFile(convertFolder(PICO, () => type)) });

/** What is loaded, and how; the encoders of GGUF types are those of the tests, simpler than ggml's. */
const WAYS: Readonly<Record<string, () => TestEngineOptions>> = {
  'bf16, as stored': () => ({}),
  '--quantization int8': () => ({ quantization: 'int8' }),
  '--quantization int4': () => ({ quantization: 'int4' }),
  'GGUF Q8_0': () => ({ files: gguf('Q8_0') }),
  'GGUF Q6_K': () => ({ files: gguf('Q6_K') }),
  'GGUF Q4_K': () => ({ files: gguf('Q4_K') }),
  'GGUF Q4_0': () => ({ files: gguf('Q4_0') }),
};

/** What quantizing costs in answers: quire-pico's skills, and its reference texts. `only`: of `WAYS`. */
export async function benchQuantization(only = Object.keys(WAYS)): Promise<string> {
  const tokenizer = loadChatTokenizer({
    tokenizerJson: json('../models/quire-pico/tokenizer.json'),
    tokenizerConfig: json('../models/quire-pico/tokenizer_config.json'),
  });
  const skills = json('../test/fixtures/quire-pico/skills.json') as Record<string, Skill[]>;
  const names = Object.keys(skills);
  const rows: (string | number)[][] = [];
  for (const way of only) {
    const engine = await TestEngine.create({ kvCacheDtype: 'f16', skipGolden: true, ...WAYS[way]!() });
    const right: number[] = [];
    for (const name of names) right.push(await rightAnswers(engine, tokenizer, skills[name]!));
    const { same, worst } = await againstReference(engine);
    rows.push([way, engine.weightBytes, ...right, right.reduce((a, b) => a + b, 0), same, worst.toFixed(3)]);
    await engine.close();
  }
  const head = [
    'weights',
    'bytes',
    ...names,
    'right of 160',
    `texts of ${reference.cases.length}`,
    'largest logprob error',
  ];
  return table('Quantization: answers of quire-pico', head, rows);
}

async function rightAnswers(engine: TestEngine, tokenizer: ChatTokenizer, cases: readonly Skill[]): Promise<number> {
  const answers = await Promise.all(
    cases.map(async ({ messages, tools, enable_thinking, answer }) => {
      const kwargs = enable_thinking ? { enable_thinking } : {};
      const prompt = tokenizer.render({ messages, tools: tools ?? null, addGenerationPrompt: true, kwargs });
      const { tokens } = await engine.one(tokenizer.encode(prompt, false), { maxTokens: MAX_TOKENS, stopIds: EOS });
      const pieces = tokens.map((id) => tokenizer.piece(id)).filter(({ special }) => !special);
      const text = new TextDecoder().decode(Buffer.concat(pieces.map(({ bytes }) => bytes)));
      return text.split('</think>\n\n').at(-1) === answer;
    }),
  );
  return answers.filter(Boolean).length;
}

/** Greedy texts that are those of the reference implementation, and how far the logprobs of its prompts are off. */
async function againstReference(engine: TestEngine): Promise<{ same: number; worst: number }> {
  let same = 0;
  let worst = 0;
  for (const { input_ids, output_ids, prompt_logprobs } of reference.cases) {
    const got = await engine.one(input_ids, { maxTokens: output_ids.length, stopIds: EOS, promptLogprobs: 0 });
    if (got.tokens.join() === output_ids.join()) same++;
    for (const [i, logprob] of prompt_logprobs.entries())
      worst = Math.max(worst, Math.abs(got.promptLogprobs![i + 1]!.logprob - logprob));
  }
  return { same, worst };
}
