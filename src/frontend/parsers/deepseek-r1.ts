import type { ThoughtFormat } from './thought.ts';

/** DeepSeek-R1 and what was distilled of it: the answer begins with reasoning, whether `<think>` stands before it or not. */
export const deepseekR1: ThoughtFormat = { starts: ['<think>'], ends: ['</think>'], cutBy: [], assumed: true };
