import type { ThoughtFormat } from './thought.ts';

/** Granite 3.2 marks its parts in words, not always the same ones. */
export const granite: ThoughtFormat = {
  starts: ['Here is my thought process:', "Here's my thought process:"],
  ends: ['Here is my response:', "Here's my response:"],
  cutBy: [],
  assumed: false,
};
