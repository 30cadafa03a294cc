import { type Frame, joinFrame, MAX_FRAME_BYTES, splitFrame } from '../../protocol/transfer-frame.ts';

/** One message of a data channel; every browser takes messages of this size. */
export const PIECE_BYTES = 64 << 10;
const LENGTH_BYTES = 4;

/** A frame as messages of a data channel: u32 little-endian length of what follows, then the frame, cut. */
export function* cutFrame(frame: Frame): Generator<Uint8Array<ArrayBuffer>> {
  const bytes = joinFrame(frame, new Uint8Array(LENGTH_BYTES));
  new DataView(bytes.buffer).setUint32(0, bytes.length - LENGTH_BYTES, true);
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

/** Puts frames together again; holds one at most. */
export class FrameJoiner {
  private bytes: Uint8Array<ArrayBuffer> | null = null;
  private filled = 0;

  /** The frame that this message completes, null when more must come, or what is wrong with it. */
  push(piece: Uint8Array<ArrayBuffer>): Frame | string | null {
    if (piece.length === 0) return 'an empty message';
    const rest = this.bytes ? piece : this.begin(piece);
    if (typeof rest === 'string') return rest;
    const bytes = this.bytes;
    if (!bytes || rest.length > bytes.length - this.filled)
      return `a message of ${piece.length} bytes, with more than its frame`;
    bytes.set(rest, this.filled);
    this.filled += rest.length;
    if (this.filled < bytes.length) return null;
    this.bytes = null;
    return splitFrame(bytes);
  }

  private begin(piece: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | string {
    if (piece.length < LENGTH_BYTES) return `a first message of ${piece.length} bytes`;
    const length = new DataView(piece.buffer, piece.byteOffset).getUint32(0, true);
    if (length > MAX_FRAME_BYTES) return `a frame of ${length} bytes (at most ${MAX_FRAME_BYTES})`;
    this.bytes = new Uint8Array(length);
    this.filled = 0;
    return piece.subarray(LENGTH_BYTES);
  }
}
