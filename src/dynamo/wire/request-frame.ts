import { type Read, WireError } from './incoming.ts';

/** One request as a frontend sends it on a connection that many requests share. */
export interface RequestFrame {
  /** `{instance id, hex}/{endpoint}`. */
  readonly path: string;
  /** A two-part message: control header and body. */
  readonly payload: Buffer;
}

/**
 * Frames of Dynamo 1.4.0's TCP request plane, big-endian: `u16 length | path | u16 length | headers, JSON | u32 length | payload`. The headers
 * (ids and times, which the payload has too) are passed over.
 */
export function requestFrames(maxPayloadBytes: number): Read<RequestFrame> {
  return (bytes) => {
    if (bytes.length < 2) return null;
    const pathEnd = 2 + bytes.readUInt16BE(0);
    if (bytes.length < pathEnd + 2) return null;
    const headersEnd = pathEnd + 2 + bytes.readUInt16BE(pathEnd);
    if (bytes.length < headersEnd + 4) return null;
    const payloadStart = headersEnd + 4;
    const payloadBytes = bytes.readUInt32BE(headersEnd);
    if (payloadBytes > maxPayloadBytes)
      throw new WireError(`a request of ${payloadBytes} bytes; at most ${maxPayloadBytes} are taken`);
    const length = payloadStart + payloadBytes;
    if (bytes.length < length) return null;
    const value = { path: bytes.toString('utf8', 2, pathEnd), payload: bytes.subarray(payloadStart, length) };
    return { value, length };
  };
}

/** The answer to a frame on its own connection, matched by order: `u32 length | text`; no text = accepted. */
export function acknowledgement(refusal: string | null): Buffer {
  const text = Buffer.from(refusal ?? '');
  const bytes = Buffer.alloc(4 + text.length);
  bytes.writeUInt32BE(text.length, 0);
  text.copy(bytes, 4);
  return bytes;
}
