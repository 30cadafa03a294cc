import { callList, callName, MAX_NAME } from './call-object.ts';
import type { CallFormat } from './call-scanner.ts';
import { jsonValue } from './json-value.ts';
import { Mismatch } from './reader.ts';

/**
 * Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`, or since its eleventh tokenizer `[TOOL_CALLS]NAME{...}` for each
 * call, in some models `[TOOL_CALLS]NAME[CALL_ID]ID[ARGS]{...}`.
 */
export const mistral: CallFormat = {
  markers: ['[TOOL_CALLS]'],
  special: ['[TOOL_CALLS]', '[CALL_ID]', '[ARGS]'],
  bare: null,
  *read(reader) {
    yield* reader.spaces();
    if ((yield* reader.peek()) === '[') {
      yield* callList(reader, null);
      return;
    }
    let head = '';
    for (let char = yield* reader.peek(); char !== '{'; char = yield* reader.peek()) {
      if (char === '' || head.length === 2 * MAX_NAME) throw new Mismatch();
      head += char;
      reader.skip(1);
    }
    const name = /^([\w.-]+)(\[CALL_ID\]\w*)?(\[ARGS\])?\s*$/.exec(head)?.[1] ?? '';
    reader.call(callName(name, null));
    yield* jsonValue(reader, (text) => reader.emit('arguments', text));
    reader.callEnd();
  },
};
