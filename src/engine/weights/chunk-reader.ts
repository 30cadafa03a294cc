/** Takes a stream of chunks of any sizes apart at the places its reader asks for, without gathering more than asked. */
export class ChunkReader {
  private rest: Uint8Array = new Uint8Array(0);

  constructor(private readonly chunks: AsyncGenerator<Uint8Array, void, undefined>) {}

  /** The next `bytes` bytes in one array. */
  async exactly(bytes: number): Promise<Uint8Array> {
    const out = new Uint8Array(bytes);
    for (let at = 0; at < bytes; ) {
      const part = await this.take(bytes - at);
      out.set(part, at);
      at += part.byteLength;
    }
    return out;
  }

  /** The next `bytes` bytes where they lie in the chunk at hand; else null, and `exactly` waits for them. */
  now(bytes: number): Uint8Array | null {
    if (this.rest.byteLength < bytes) return null;
    const part = this.rest.subarray(0, bytes);
    this.rest = this.rest.subarray(bytes);
    return part;
  }

  /** The next `bytes` bytes in pieces as they come; all but the last are multiples of `unit` bytes. */
  async *units(bytes: number, unit: number): AsyncGenerator<Uint8Array, void, undefined> {
    for (let left = bytes; left > 0; ) {
      if (this.rest.byteLength === 0) await this.fill();
      const here = Math.min(this.rest.byteLength, left);
      const whole = here === left ? here : here - (here % unit);
      const piece = whole > 0 ? await this.take(whole) : await this.exactly(Math.min(unit, left));
      left -= piece.byteLength;
      yield piece;
    }
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) left -= (await this.take(left)).byteLength;
  }

  /** Reads on to the end, so that the source can check what it has given; the bytes are dropped. */
  async drain(): Promise<void> {
    while (!(await this.chunks.next()).done);
  }

  /** Gives the source back. */
  async close(): Promise<void> {
    await this.chunks.return();
  }

  private async take(most: number): Promise<Uint8Array> {
    if (this.rest.byteLength === 0) await this.fill();
    const part = this.rest.subarray(0, most);
    this.rest = this.rest.subarray(part.byteLength);
    return part;
  }

  private async fill(): Promise<void> {
    while (this.rest.byteLength === 0) {
      const next = await this.chunks.next();
      if (next.done) throw new RangeError('the stream ended before the bytes that were asked for');
      this.rest = next.value;
    }
  }
}
