import type { ThoughtFormat } from './thought.ts';

/** `<think>...</think>`, where the answer or already its prompt begins it. */
export const basic: ThoughtFormat = { starts: ['<think>'], ends: ['</think>'], cutBy: [], assumed: false };
