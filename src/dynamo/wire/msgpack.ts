import { WireError } from './incoming.ts';

/** Deeper nesting than any body of Dynamo's has. */
const MAX_DEPTH = 64;

/**
 * Plain data from msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md), integers beyond ±(2^53 - 1) as bigints; extensions are
 * refused. Ours, since a decoder for bytes of strangers must not take memory for lengths that are only said. Throws `WireError`.
 */
export function decodeMsgpack(bytes: Buffer): unknown {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length)
    throw new WireError(`${bytes.length - reader.at} bytes after the end of a msgpack body`);
  return value;
}

class Reader {
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  value(depth: number): unknown {
    const head = this.#uint(1);
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 0x100;
    if (head < 0x90) return this.#map(head & 0x0f, depth);
    if (head < 0xa0) return this.#array(head & 0x0f, depth);
    if (head < 0xc0) return this.#text(head & 0x1f);
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#take(this.#uint(1 << (head - 0xc4)));
      case 0xca:
        return this.#take(4).readFloatBE();
      case 0xcb:
        return this.#take(8).readDoubleBE();
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#uint(1 << (head - 0xcc));
      case 0xcf:
        return shortest(this.#take(8).readBigUInt64BE());
      case 0xd0:
      case 0xd1:
      case 0xd2: {
        const length = 1 << (head - 0xd0);
        return this.#take(length).readIntBE(0, length);
      }
      case 0xd3:
        return shortest(this.#take(8).readBigInt64BE());
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#uint(1 << (head - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#uint(2 << (head - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.#map(this.#uint(2 << (head - 0xde)), depth);
      default:
        throw new WireError(`a msgpack body with a value of type 0x${head.toString(16)}, which is not taken`);
    }
  }

  #take(length: number): Buffer {
    const end = this.at + length;
    if (end > this.#bytes.length) throw new WireError('a msgpack body that ends too early');
    const taken = this.#bytes.subarray(this.at, end);
    this.at = end;
    return taken;
  }

  #uint(length: number): number {
    return this.#take(length).readUIntBE(0, length);
  }

  #text(length: number): string {
    return this.#take(length).toString();
  }

  #array(count: number, depth: number): unknown[] {
    const inner = deeper(depth);
    const values: unknown[] = [];
    while (values.length < count) values.push(this.value(inner));
    return values;
  }

  #map(count: number, depth: number): object {
    const inner = deeper(depth);
    const entries: [string, unknown][] = [];
    while (entries.length < count) entries.push([String(this.value(inner)), this.value(inner)]);
    return Object.fromEntries(entries);
  }
}

function deeper(depth: number): number {
  if (depth >= MAX_DEPTH) throw new WireError(`a msgpack body that is nested more than ${MAX_DEPTH} deep`);
  return depth + 1;
}

function shortest(value: bigint): bigint | number {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
