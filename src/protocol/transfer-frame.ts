import { createXXHash3 } from 'hash-wasm';
import { FrameHeader, MAX_PAYLOAD_BYTES } from './transfer.ts';

/** Longest header, bytes: 4,096 hashes of 20 digits, and the names beside them, fit. */
const MAX_HEADER_BYTES = 128 << 10;
const LENGTH_BYTES = 4;
/** Longest frame as one run of bytes. */
export const MAX_FRAME_BYTES = LENGTH_BYTES + MAX_HEADER_BYTES + MAX_PAYLOAD_BYTES;

/** What a channel carries: a header as JSON in UTF-8, and the payload of `blocks` (else empty). */
export interface Frame {
  readonly head: Uint8Array<ArrayBuffer>;
  readonly payload: Uint8Array<ArrayBuffer>;
}

export type ParsedHeader =
  | { readonly ok: true; readonly header: FrameHeader }
  | { readonly ok: false; readonly why: string };

const NO_PAYLOAD = new Uint8Array(0);
const decoder = new TextDecoder('utf-8', { fatal: true });

export function makeFrame(header: FrameHeader, payload: Uint8Array<ArrayBuffer> = NO_PAYLOAD): Frame {
  const text = JSON.stringify(header, (_key, value) => (typeof value === 'bigint' ? value.toString() : value));
  return { head: new TextEncoder().encode(text), payload };
}

/** A frame as one run of bytes, after `prefix`: u32 little-endian length of the header, header, payload. */
export function joinFrame({ head, payload }: Frame, prefix: Uint8Array = NO_PAYLOAD): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(prefix.length + LENGTH_BYTES + head.length + payload.length);
  bytes.set(prefix);
  new DataView(bytes.buffer).setUint32(prefix.length, head.length, true);
  bytes.set(head, prefix.length + LENGTH_BYTES);
  bytes.set(payload, prefix.length + LENGTH_BYTES + head.length);
  return bytes;
}

/** The two parts of a frame, as views; or what is wrong with its lengths. */
export function splitFrame(bytes: Uint8Array<ArrayBuffer>): Frame | string {
  if (bytes.length < LENGTH_BYTES) return `a frame of ${bytes.length} bytes`;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (length > bytes.length - LENGTH_BYTES) return `a header of ${length} bytes in a frame of ${bytes.length}`;
  const payloadAt = LENGTH_BYTES + length;
  return { head: bytes.subarray(LENGTH_BYTES, payloadAt), payload: bytes.subarray(payloadAt) };
}

/** Reads a frame's header and checks all that can be known without its transfer. Never throws. */
export function readHeader({ head, payload }: Frame): ParsedHeader {
  if (head.length > MAX_HEADER_BYTES)
    return { ok: false, why: `a header of ${head.length} bytes (at most ${MAX_HEADER_BYTES})` };
  if (payload.length > MAX_PAYLOAD_BYTES)
    return { ok: false, why: `a payload of ${payload.length} bytes (at most ${MAX_PAYLOAD_BYTES})` };
  let json: unknown;
  try {
    json = JSON.parse(decoder.decode(head));
  } catch {
    return { ok: false, why: 'a header that is no JSON' };
  }
  const parsed = FrameHeader.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return { ok: false, why: `a header with a wrong ${issue?.path.join('.') || 'type'}: ${issue?.message}` };
  }
  if (parsed.data.type !== 'blocks' && payload.length > 0)
    return { ok: false, why: `a payload of ${payload.length} bytes behind ${parsed.data.type}` };
  return { ok: true, header: parsed.data };
}

/** XXH3-64 with seed 0, as headers carry it. */
export type PayloadHash = (payload: Uint8Array) => bigint;

export async function createPayloadHash(): Promise<PayloadHash> {
  const hasher = await createXXHash3(0, 0);
  return (payload) => {
    const digest = hasher.init().update(payload).digest('binary');
    return new DataView(digest.buffer, digest.byteOffset).getBigUint64(0, false);
  };
}
