import { type Read, WireError } from './incoming.ts';

/** Header and body of a message; a part of no bytes is one that is not there. */
export interface TwoPart {
  readonly header: Buffer;
  readonly body: Buffer;
}

const NONE = Buffer.alloc(0);
const LENGTHS = 24;

/** Dynamo's two-part messages, big-endian: `u64 header length | u64 body length | u64 checksum (0, not used) | header | body`. */
export function twoParts(maxBytes: number): Read<TwoPart> {
  return (bytes) => {
    if (bytes.length < LENGTHS) return null;
    const [headerBytes, bodyBytes] = [bytes.readBigUInt64BE(0), bytes.readBigUInt64BE(8)];
    if (headerBytes + bodyBytes > maxBytes)
      throw new WireError(`a message of ${headerBytes + bodyBytes} bytes; at most ${maxBytes} are taken`);
    const headerEnd = LENGTHS + Number(headerBytes);
    const length = headerEnd + Number(bodyBytes);
    if (bytes.length < length) return null;
    return { value: { header: bytes.subarray(LENGTHS, headerEnd), body: bytes.subarray(headerEnd, length) }, length };
  };
}

/** The one message that `bytes` are. Throws `WireError`. */
export function readTwoPart(bytes: Buffer): TwoPart {
  const found = twoParts(Number.MAX_SAFE_INTEGER)(bytes);
  if (found === null || found.length !== bytes.length)
    throw new WireError(`a payload of ${bytes.length} bytes that is no two-part message`);
  return found.value;
}

export function writeTwoPart({ header = NONE, body = NONE }: { header?: Uint8Array; body?: Uint8Array }): Buffer {
  const bytes = Buffer.allocUnsafe(LENGTHS + header.length + body.length).fill(0, 0, LENGTHS);
  bytes.writeUIntBE(header.length, 2, 6);
  bytes.writeUIntBE(body.length, 10, 6);
  bytes.set(header, LENGTHS);
  bytes.set(body, LENGTHS + header.length);
  return bytes;
}
