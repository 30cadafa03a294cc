import { callList, callName } from './call-object.ts';
import type { CallFormat } from './call-scanner.ts';
import { jsonValue } from './json-value.ts';

/** What `tool_choice: required` makes of an answer, whatever the model: a list of calls (vLLM's form). */
export const requiredCalls: CallFormat = {
  markers: [],
  special: [],
  bare: '[',
  *read(reader, { known }) {
    yield* callList(reader, known);
  },
};

/** What a named `tool_choice` makes of an answer: the arguments of that one call. */
export function namedCall(name: string): CallFormat {
  return {
    markers: [],
    special: [],
    bare: '{',
    *read(reader, { known }) {
      reader.call(callName(name, known));
      yield* jsonValue(reader, (text) => reader.emit('arguments', text));
      reader.callEnd();
    },
  };
}
