import { callList } from './call-object.ts';
import type { CallFormat } from './call-scanner.ts';

/** Jamba 1.5: `<tool_calls>[{"name": ..., "arguments": {...}}, ...]</tool_calls>`. */
export const jamba: CallFormat = {
  markers: ['<tool_calls>'],
  special: ['<tool_calls>', '</tool_calls>'],
  bare: null,
  *read(reader) {
    yield* reader.spaces();
    yield* callList(reader, null);
    yield* reader.spaces();
    yield* reader.expect('</tool_calls>');
  },
};
