import type { Thought } from '../protocol/generate.ts';
import { badRequest } from './errors.ts';
import type { PromptThought, ThoughtFormat } from './parsers/thought.ts';
import type { ChatTokenizer } from './tokenizer.ts';

/** Whether an answer is reasoning first, whatever the model would rather do. */
export function beginsWithThought({ assumed }: ThoughtFormat, prompt: PromptThought): boolean {
  return prompt === 'open' || (assumed && prompt === 'unsaid');
}

/**
 * The reasoning that a grammar begins after, by its marks; null = the grammar begins with the answer. `chooses`: where the prompt says nothing, the model may
 * begin with either. Throws `ApiError` 400 where nobody could tell from tokens when reasoning that has begun ends.
 */
export function thoughtBefore(
  format: ThoughtFormat,
  prompt: PromptThought,
  chooses: boolean,
  tokenizer: Pick<ChatTokenizer, 'tokenIds'> | null,
): Thought | null {
  const begun = beginsWithThought(format, prompt);
  const ids = (marks: readonly string[]) => [...(tokenizer?.tokenIds(marks) ?? [])];
  const thought = { begun, starts: ids(format.starts), ends: ids(format.ends) };
  if (begun && thought.ends.length === 0)
    throw badRequest(
      'This model begins with reasoning, and its vocabulary has no token that ends it: what a grammar could begin after. Turn it off where the template knows how, as by \'chat_template_kwargs\': {"enable_thinking": false}.',
    );
  const may = chooses && prompt === 'unsaid' && thought.starts.length > 0 && thought.ends.length > 0;
  return begun || may ? thought : null;
}
