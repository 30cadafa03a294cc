import { readFileSync } from 'node:fs';
import type { TemplateMessage } from '../../src/frontend/chat-template.ts';
import type { ChatTokenizer } from '../../src/frontend/tokenizer.ts';
import type { TestEngine } from './test-engine.ts';

/** One question of `skills.json` and what quire-pico learned to answer. */
export interface Skill {
  readonly messages: readonly TemplateMessage[];
  readonly tools?: readonly unknown[];
  readonly enable_thinking?: boolean;
  readonly answer: string;
}

const json = (path: string): unknown => JSON.parse(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8'));
const MAX_TOKENS = 140;
export const EOS = [2, 0];

/** Questions by skill, twenty each. */
export const skills = (): Record<string, Skill[]> =>
  json('test/fixtures/quire-pico/skills.json') as Record<string, Skill[]>;

/** How many of the questions, asked at once and answered greedily, an engine of quire-pico answers right. */
export async function rightAnswers(
  engine: TestEngine,
  tokenizer: ChatTokenizer,
  cases: readonly Skill[],
): Promise<number> {
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
