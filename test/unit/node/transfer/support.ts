import type { KvReservation } from '../../../../src/engine/api.ts';
import type { KvFacts } from '../../../../src/node/transfer/receiver.ts';
import type { Channel, ChannelListener } from '../../../../src/node/transfer/transport.ts';
import { type KvSection, sectionBytes } from '../../../../src/protocol/transfer.ts';
import type { Frame } from '../../../../src/protocol/transfer-frame.ts';

export const FACTS: KvFacts = { fingerprint: 'f'.repeat(64), kvCacheDtype: 'f32', layers: 3, layerBlockBytes: 64 };

/** What stands at one place of a prompt's KV: every byte depends on where it is. */
function kvBlock(layer: number, part: number, block: number, length: number): Buffer {
  const first = (layer * 31 + part * 17 + block * 7) & 255;
  const key = `${first} ${length}`;
  let made = BLOCKS.get(key);
  if (!made) {
    made = Buffer.alloc(length);
    for (let at = 0; at < length; at++) made[at] = (first + at * 3) & 255;
    BLOCKS.set(key, made);
  }
  return made;
}

const BLOCKS = new Map<string, Buffer>();

/** A section's payload: [layer][K, V][block][bytes of a block]. */
export function kvPayload(section: KvSection, { layerBlockBytes }: KvFacts): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(sectionBytes(section, layerBlockBytes));
  let to = 0;
  for (let layer = section.firstLayer; layer < section.firstLayer + section.layers; layer++)
    for (let part = 0; part < 2; part++)
      for (let block = section.firstBlock; block < section.firstBlock + section.blocks; block++) {
        bytes.set(kvBlock(layer, part, block, layerBlockBytes), to);
        to += layerBlockBytes;
      }
  return bytes;
}

/** Prefill side's engine: has what it is told it has. */
export class PrefillEngine {
  readonly started: string[] = [];
  readonly cancelled: string[] = [];
  readonly exported: KvSection[] = [];
  /** Set: the next export is of these bytes. */
  tamper: ((payload: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>) | null = null;

  constructor(private readonly facts: KvFacts) {}

  prefill({ request }: { request: string }): void {
    this.started.push(request);
  }

  async export(_request: string, section: KvSection): Promise<ArrayBuffer> {
    this.exported.push(section);
    const payload = kvPayload(section, this.facts);
    return (this.tamper?.(payload) ?? payload).buffer;
  }

  cancel(request: string): void {
    this.cancelled.push(request);
  }
}

/** Decode side's blocks. `state` is what became of them; bytes are kept by place. */
export class Reservation implements KvReservation {
  state: 'open' | 'committed' | 'aborted' = 'open';
  readonly writes: KvSection[] = [];
  writesAfterEnd = 0;
  private readonly bytes = new Map<string, Uint8Array>();

  constructor(
    readonly firstBlock: number,
    readonly hashes: readonly bigint[],
    private readonly facts: KvFacts,
  ) {}

  write(section: KvSection, payload: Uint8Array): void {
    if (this.state !== 'open') {
      this.writesAfterEnd++;
      throw new Error('written after the end');
    }
    this.writes.push(section);
    const { layerBlockBytes } = this.facts;
    let from = 0;
    for (let layer = section.firstLayer; layer < section.firstLayer + section.layers; layer++)
      for (let part = 0; part < 2; part++)
        for (let block = section.firstBlock; block < section.firstBlock + section.blocks; block++) {
          this.bytes.set(`${layer} ${part} ${block}`, payload.slice(from, from + layerBlockBytes));
          from += layerBlockBytes;
        }
  }

  commit(): void {
    if (this.state !== 'open') throw new Error('committed after the end');
    if (this.bytes.size !== this.hashes.length * 2 * this.facts.layers) throw new Error('not all was written');
    this.state = 'committed';
  }

  abort(): void {
    if (this.state === 'open') this.state = 'aborted';
  }

  /** Every byte of every reserved block is there, and right. */
  isWhole(): boolean {
    const { layers, layerBlockBytes } = this.facts;
    for (let layer = 0; layer < layers; layer++)
      for (let part = 0; part < 2; part++)
        for (let block = this.firstBlock; block < this.firstBlock + this.hashes.length; block++) {
          const bytes = this.bytes.get(`${layer} ${part} ${block}`);
          if (!bytes || !kvBlock(layer, part, block, layerBlockBytes).equals(bytes)) return false;
        }
    return true;
  }
}

/** One end of a way that a test holds in its hand: what is sent lies in `sent` until the test passes it on. */
export class HeldChannel implements Channel {
  writable = true;
  isClosed = false;
  readonly sent: Frame[] = [];
  listener: ChannelListener | null = null;

  send(frame: Frame): void {
    this.sent.push(frame);
  }

  listen(listener: ChannelListener): void {
    this.listener = listener;
  }

  close(): void {
    this.isClosed = true;
  }
}

export const settled = () => new Promise((resolve) => setImmediate(resolve));
