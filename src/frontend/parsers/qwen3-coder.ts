import { callName, MAX_NAME } from './call-object.ts';
import type { CallFormat, Tools } from './call-scanner.ts';
import { escapeJson } from './json-value.ts';
import { pythonToJson } from './python-value.ts';
import { Mismatch, type Read, type Reader } from './reader.ts';

/** Longest value, in characters, that is no text: it is known for what it is only at its end. */
const MAX_VALUE = 65_536;

/**
 * Qwen3-Coder, Qwen3.5: `<tool_call><function=NAME><parameter=KEY>VALUE</parameter>...</function></tool_call>`, with line breaks
 * between them and around values. Values are plain text; what they mean is in the tool's schema.
 */
export const qwen3Coder: CallFormat = {
  markers: ['<tool_call>', '<function='],
  special: ['<tool_call>', '</tool_call>'],
  bare: null,
  *read(reader, { marker, tools }) {
    const wrapped = marker === '<tool_call>';
    if (wrapped) {
      yield* reader.spaces();
      yield* reader.expect('<function=');
    }
    // The model forgets the outer tag at times. Then the name must be one that it was told.
    const name = callName((yield* reader.until('>', MAX_NAME)).trim(), wrapped ? null : tools);
    yield* reader.spaces();
    let tag = yield* reader.accept('<parameter=', '</function>');
    if (tag === null) throw new Mismatch();
    reader.call(name);
    reader.emit('arguments', '{');
    for (let first = true; tag === '<parameter='; first = false) {
      const key = (yield* reader.until('>', MAX_NAME)).trim();
      reader.emit('arguments', `${first ? '' : ', '}${JSON.stringify(key)}: `);
      yield* value(reader, typesOf(tools, name, key));
      yield* reader.spaces();
      tag = yield* reader.accept('<parameter=', '</function>');
      if (tag === null) throw new Mismatch();
    }
    reader.emit('arguments', '}');
    reader.callEnd();
    if (!wrapped) return;
    yield* reader.spaces();
    yield* reader.expect('</tool_call>');
  },
};

const ENDS = ['\n</parameter>', '</parameter>'];

/** Reads a value with its end tag. Texts are given on as they come; other types once they are whole. */
function* value(reader: Reader, types: ReadonlySet<string>): Read<void> {
  yield* reader.accept('\n');
  if (types.size === 0) {
    reader.emit('arguments', '"');
    const end = yield* reader.through(ENDS, (text) => reader.emit('arguments', escapeJson(text)));
    if (end === null) throw new Mismatch();
    reader.emit('arguments', '"');
    return;
  }
  let text = '';
  const end = yield* reader.through(ENDS, (piece) => {
    text += piece;
    if (text.length > MAX_VALUE) throw new Mismatch();
  });
  if (end === null) throw new Mismatch();
  reader.emit('arguments', asJson(text, types));
}

/** `text`, JSON or a Python literal, as JSON of one of `types`; as a string where it is of none. */
function asJson(text: string, types: ReadonlySet<string>): string {
  for (const json of [text.trim(), pythonToJson(text.trim())]) {
    if (json !== null && types.has(typeOfJson(json))) return json;
  }
  return `"${escapeJson(text)}"`;
}

function typeOfJson(json: string): string {
  try {
    const value: unknown = JSON.parse(json);
    if (value === null) return 'null';
    return Array.isArray(value) ? 'array' : typeof value;
  } catch {
    return 'none';
  }
}

/** JavaScript's types that the schema of a tool's parameter allows beside text; none where it says nothing. */
function typesOf(tools: Tools, name: string, key: string): ReadonlySet<string> {
  const found = new Set<string>();
  collect(property(property(tools.get(name), 'properties'), key), found, 4);
  return found;
}

function collect(schema: unknown, found: Set<string>, depth: number): void {
  const type = property(schema, 'type');
  for (const each of Array.isArray(type) ? type : [type]) {
    if (typeof each === 'string' && each !== 'string') found.add(each === 'integer' ? 'number' : each);
  }
  if (depth === 0) return;
  for (const key of ['anyOf', 'oneOf', 'allOf']) {
    const branches = property(schema, key);
    if (Array.isArray(branches)) for (const branch of branches) collect(branch, found, depth - 1);
  }
}

function property(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}
