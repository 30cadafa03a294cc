import type { GenerateRequest } from '../../src/protocol/generate.ts';
import { picoTokenizer } from './pico-tokenizer.ts';

const pico = picoTokenizer();
const EOS = 2;

/** A request's prompt as text. */
export const promptText = ({ prompt }: GenerateRequest): string =>
  Buffer.concat(prompt.map((id) => pico.piece(id).bytes)).toString('utf8');

/** Ids of an answer of quire-pico that ends by itself. */
export const answerIds = (text: string): number[] => [...pico.encode(text, false), EOS];

/** What a scripted node answers: it thinks and writes `call` first, then tells what a tool gave it. */
export function weatherAsker(call: string): (request: GenerateRequest) => number[] {
  return (request) => {
    const told = /<tool_response>\n(.*)\n<\/tool_response>/.exec(promptText(request))?.[1];
    return answerIds(told === undefined ? `<think>\nI must ask.\n</think>\n\n${call}` : `It is ${told}.`);
  };
}
