import { callObject } from './call-object.ts';
import type { CallFormat } from './call-scanner.ts';

/** Hermes 2 Pro and on, Qwen2.5, Qwen3, quire-pico: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, one after the other. */
export const hermes: CallFormat = {
  markers: ['<tool_call>'],
  special: ['<tool_call>', '</tool_call>'],
  bare: null,
  *read(reader) {
    yield* reader.spaces();
    yield* callObject(reader, null);
    yield* reader.spaces();
    yield* reader.expect('</tool_call>');
  },
};
