import { jsonString, jsonValue } from './json-value.ts';
import { Mismatch, type Read, type Reader } from './reader.ts';

/** Longest name of a tool, or of a key beside it. */
export const MAX_NAME = 256;

/** Which names are calls: null = all of them. */
export type KnownNames = Pick<ReadonlySet<string>, 'has'> | null;

const ARGUMENTS = ['arguments', 'parameters'];

/**
 * Reads `{"name": NAME, "arguments": {...}}`, a call as most models write it; Llama says `parameters`. Keys come in any order, others are
 * passed over. Arguments are given on as they come once the name is known. Throws `Mismatch` where it is no call.
 */
export function* callObject(reader: Reader, known: KnownNames): Read<void> {
  let name: string | null = null;
  let early = '';
  let called = false;
  yield* reader.expect('{');
  do {
    yield* reader.spaces();
    const key = yield* jsonString(reader, MAX_NAME);
    yield* reader.spaces();
    yield* reader.expect(':');
    yield* reader.spaces();
    if (key === 'name' && name === null) {
      name = callName(yield* jsonString(reader, MAX_NAME), known);
    } else if (ARGUMENTS.includes(key) && !called && early === '') {
      if ((yield* reader.peek()) !== '{') throw new Mismatch();
      if (name !== null) {
        called = true;
        reader.call(name);
      }
      yield* jsonValue(reader, (text) => {
        if (called) reader.emit('arguments', text);
        else early += text;
      });
      if (called) reader.callEnd();
    } else {
      yield* jsonValue(reader, () => {});
    }
    if (name !== null && early !== '' && !called) {
      called = true;
      reader.call(name);
      reader.emit('arguments', early);
      reader.callEnd();
    }
    yield* reader.spaces();
  } while ((yield* reader.accept(',')) !== null);
  yield* reader.expect('}');
  if (!called) throw new Mismatch();
  reader.hold();
}

/** Reads `[CALL, CALL, ...]` of `callObject`s, at least one. Throws `Mismatch` where it is none. */
export function* callList(reader: Reader, known: KnownNames): Read<void> {
  yield* reader.expect('[');
  do {
    yield* reader.spaces();
    yield* callObject(reader, known);
    yield* reader.spaces();
  } while ((yield* reader.accept(',')) !== null);
  yield* reader.expect(']');
}

/** `name`, when it can be that of a call. Throws `Mismatch`. */
export function callName(name: string, known: KnownNames): string {
  if (name === '' || (known !== null && !known.has(name))) throw new Mismatch();
  return name;
}
