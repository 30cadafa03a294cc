import type { ModelFiles } from '../src/engine/files/source.ts';
import { EOS, rightAnswers, skills } from '../test/gpu/skills.ts';
import { PICO, reference, TestEngine, type TestEngineOptions } from '../test/gpu/test-engine.ts';
import { convertFolder } from '../test/support/convert-gguf.ts';
import { memoryFiles } from '../test/support/folder-files.ts';
import type { StoredType } from '../test/support/ggml-types.ts';
import { ggufFile } from '../test/support/gguf-file.ts';
import { picoTokenizer } from '../test/support/pico-tokenizer.ts';
import { table } from './table.ts';

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
  const tokenizer = picoTokenizer();
  const cases = skills();
  const names = Object.keys(cases);
  const rows: (string | number)[][] = [];
  for (const way of only) {
    const engine = await TestEngine.create({ kvCacheDtype: 'f16', ...WAYS[way]!() });
    const right: number[] = [];
    for (const name of names) right.push(await rightAnswers(engine, tokenizer, cases[name]!));
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
