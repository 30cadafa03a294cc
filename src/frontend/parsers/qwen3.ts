import type { ThoughtFormat } from './thought.ts';

/** Qwen3, quire-pico: as `basic`; Qwen3.5 goes from its reasoning straight into a call at times. */
export const qwen3: ThoughtFormat = {
  starts: ['<think>'],
  ends: ['</think>'],
  cutBy: ['<tool_call>\n<function='],
  assumed: false,
};
