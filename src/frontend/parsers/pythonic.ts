import { callName } from './call-object.ts';
import type { CallFormat, CallStart } from './call-scanner.ts';
import { pythonName, pythonValue } from './python-value.ts';
import { Mismatch, type Read, type Reader } from './reader.ts';

/** Llama 3.2 and 4, ToolACE: the answer is a Python list of calls with named arguments, `[weather(city="Bern", days=2), now()]`. */
export const pythonic: CallFormat = {
  markers: [],
  special: [],
  bare: '[',
  *read(reader, start) {
    yield* reader.expect('[');
    do {
      yield* reader.spaces();
      yield* pythonCall(reader, start);
      yield* reader.spaces();
    } while ((yield* reader.accept(',')) !== null);
    yield* reader.expect(']');
  },
};

function* pythonCall(reader: Reader, { known }: CallStart): Read<void> {
  const name = callName(yield* pythonName(reader), known);
  yield* reader.expect('(');
  yield* reader.spaces();
  let argument = yield* argumentName(reader);
  reader.call(name);
  reader.emit('arguments', '{');
  while (argument !== null) {
    reader.emit('arguments', `${JSON.stringify(argument)}: `);
    yield* reader.spaces();
    yield* pythonValue(reader, (text) => reader.emit('arguments', text));
    yield* reader.spaces();
    const comma = yield* reader.accept(',');
    yield* reader.spaces();
    argument = comma === null ? yield* noArgument(reader) : yield* argumentName(reader);
    if (argument !== null) reader.emit('arguments', ', ');
  }
  reader.emit('arguments', '}');
  reader.callEnd();
}

/** The next argument's name and the sign after it; null at the closing bracket. */
function* argumentName(reader: Reader): Read<string | null> {
  if ((yield* reader.accept(')')) !== null) return null;
  const name = yield* pythonName(reader);
  yield* reader.spaces();
  yield* reader.expect('=');
  return name;
}

function* noArgument(reader: Reader): Read<null> {
  if ((yield* reader.accept(')')) === null) throw new Mismatch();
  return null;
}
