import { decode } from '@msgpack/msgpack';
import { describe, expect, it } from 'vitest';
import { encodeBatch } from '../../../../src/hub/kv-publisher/vllm-batch.ts';

const [FIRST, SECOND, THIRD] = [14643705804678351452n, 4945711292740353085n, 12583592247330656132n];
const block = (blockHash: bigint, tokens: number[]) => ({ blockHash, tokensHash: 0n, tokens });
const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));

// Made with Python's msgspec 0.22.0, and read back by the structs of vLLM 0.11.0 itself (`vllm/distributed/kv_events.py` of the release).
describe('a batch is, byte for byte, what msgspec makes of it', () => {
  it('two stored blocks at the start of a prompt', () => {
    const blocks = [block(FIRST, [1, 2, 3, 4]), block(SECOND, [5, 200, 70000, 4294967295])];
    expect(encodeBatch(1700000000.25, [{ type: 'stored', parent: null, blocks }], 0)).toEqual(
      bytes(
        '93cb41d954fc401000009197ab426c6f636b53746f72656492cfcb38e4d7fb2dca5ccf44a2b2379d6d3c3dc0980102030405ccc8ce00011170ceffffffff04c0a347505500',
      ),
    );
  });

  it('a child, a removal and the end of all, at a whole second, of rank 3', () => {
    const batch = encodeBatch(
      1700000000,
      [
        { type: 'stored', parent: FIRST, blocks: [block(THIRD, [9, 10, 11, 12])] },
        { type: 'removed', blockHashes: [FIRST, 5n] },
        { type: 'cleared' },
      ],
      3,
    );
    expect(batch).toEqual(
      bytes(
        '93cb41d954fc400000009397ab426c6f636b53746f72656491cfaea1e67a6c80cf84cfcb38e4d7fb2dca5c94090a0b0c04c0a347505593ac426c6f636b52656d6f76656492cfcb38e4d7fb2dca5c05a347505591b0416c6c426c6f636b73436c656172656403',
      ),
    );
  });

  it('the name of a LoRA adapter stands behind the rest', () => {
    const blocks = [block(FIRST, [1, 2, 3, 4])];
    const batch = encodeBatch(1, [{ type: 'stored', parent: null, loraName: 'sql-lora', blocks }], 0);
    expect(decode(batch, { useBigInt64: true })).toEqual([
      1,
      [['BlockStored', [FIRST], null, [1, 2, 3, 4], 4, null, 'GPU', 'sql-lora']],
      0,
    ]);
  });

  it('hashes of more than 64 bits are told by their low 64 bits', () => {
    const long = (7n << 64n) | FIRST;
    const batch = encodeBatch(1, [{ type: 'removed', blockHashes: [long] }], 0);
    expect(decode(batch, { useBigInt64: true })).toEqual([1, [['BlockRemoved', [FIRST], 'GPU']], 0]);
  });
});
