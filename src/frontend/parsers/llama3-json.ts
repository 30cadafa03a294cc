import { callObject } from './call-object.ts';
import type { CallFormat } from './call-scanner.ts';

/**
 * Llama 3.1 and on: the answer is `{"name": ..., "parameters": {...}}`, or has it after `<|python_tag|>`; several are separated by
 * semicolons. Code for built-in tools after that marker is text.
 */
export const llama3Json: CallFormat = {
  markers: ['<|python_tag|>'],
  special: ['<|python_tag|>'],
  bare: '{',
  *read(reader, { known }) {
    do {
      yield* reader.spaces();
      yield* callObject(reader, known);
      yield* reader.spaces();
    } while ((yield* reader.accept(';', ',')) !== null);
  },
};
