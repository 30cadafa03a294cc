import { beforeAll, describe, expect, it } from 'vitest';
import { gateUp } from '../../../src/engine/kernels/gate-up.ts';
import { gated } from '../../../src/engine/kernels/gated.ts';
import { loraExpand, loraShrink } from '../../../src/engine/kernels/lora.ts';
import { matmul } from '../../../src/engine/kernels/matmul.ts';
import { SLOT_LORA, SLOT_STRIDE } from '../../../src/engine/tables.ts';
import { Bench, openDawn } from '../dawn.ts';
import { floats, random, stored } from './reference.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const RANK = 8;
const ADAPTERS = 3;
/** Columns of three targets, as of q, k and v. */
const COLUMNS = [70, 24, 10];
const TOTAL = 104;
const FIRST = [0, 70, 94];
const FILL = 77;

/** Slots 0 to 5 and the adapter of each (0 = none); rows of one slot need not stand together. */
const SLOT_LORAS = [0, 1, 2, 0, 3, 1];
const ROWS = {
  1: [4],
  4: [1, 2, 5, 0],
  64: Array.from({ length: 61 }, (_, i) => (i * 7 + (i >> 3)) % 6),
};

interface World {
  readonly inputs: number;
  readonly input: Float32Array;
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly old: Float32Array;
}

function worldOf(inputs: number): World {
  const rand = random(inputs);
  return {
    inputs,
    input: floats(rand, 64 * inputs),
    a: floats(rand, ADAPTERS * COLUMNS.length * RANK * inputs),
    b: floats(rand, ADAPTERS * RANK * TOTAL),
    old: floats(rand, 64 * TOTAL),
  };
}

function tables(slots: readonly number[]) {
  const words = new Uint32Array(SLOT_LORAS.length * SLOT_STRIDE);
  for (const [slot, lora] of SLOT_LORAS.entries()) words[slot * SLOT_STRIDE + SLOT_LORA] = lora;
  // Behind the rows in use are inactive ones, of slot 0 or of an old step.
  const rows = Array.from({ length: 64 }, (_, i) => (i < slots.length ? [slots[i]!, 0, 0, 1] : [1, 0, 0, 0]));
  return { slots: bench.buffer(words), rows: bench.buffer(Uint32Array.from(rows.flat())) };
}

const WHOLE = [{ begin: 0, at: 0, count: TOTAL }];

async function run(w: World, variant: 'scalar' | 'wide', slots: readonly number[], bucket: number, runs = WHOLE) {
  const shared = { label: 'test', variant, bucket, rank: RANK, ...tables(slots) };
  const shrunk = bench.buffer(new Float32Array(64 * COLUMNS.length * RANK).fill(FILL));
  const out = bench.buffer(w.old);
  await bench.run(
    loraShrink({
      ...shared,
      inputs: w.inputs,
      targets: COLUMNS.length,
      input: bench.buffer(w.input),
      a: bench.buffer(w.a),
      out: shrunk,
    }),
    ...runs.map((run) =>
      loraExpand({ ...shared, columns: TOTAL, firstColumns: FIRST, run, shrunk, b: bench.buffer(w.b), out }),
    ),
  );
  return { shrunk: new Float32Array(await bench.read(shrunk)), out: new Float32Array(await bench.read(out)) };
}

describe.each(['scalar', 'wide'] as const)('lora_shrink and lora_expand, %s', (variant) => {
  describe.each([48, 80, 6, 1030])('%d inputs', (inputs) => {
    it.each([1, 4, 64] as const)(
      'add B A x of the adapter of each row, and nothing to rows without one: %d rows',
      async (bucket) => {
        const w = worldOf(inputs);
        const slots = ROWS[bucket];
        const { shrunk, out } = await run(w, variant, slots, bucket);
        for (const [row, slot] of slots.entries()) {
          const adapter = SLOT_LORAS[slot]! - 1;
          const own = out.subarray(row * TOTAL, (row + 1) * TOTAL);
          if (adapter < 0) {
            expect([...own]).toEqual([...w.old.subarray(row * TOTAL, (row + 1) * TOTAL)]);
            expect(shrunk[row * COLUMNS.length * RANK]).toBe(FILL);
            continue;
          }
          for (let column = 0; column < TOTAL; column++) {
            const target = FIRST.findLastIndex((first) => column >= first);
            let sum = 0;
            for (let i = 0; i < RANK; i++) {
              const line = ((adapter * COLUMNS.length + target) * RANK + i) * inputs;
              let inner = 0;
              for (let k = 0; k < inputs; k++) inner += w.input[row * inputs + k]! * w.a[line + k]!;
              sum += inner * w.b[(adapter * RANK + i) * TOTAL + column]!;
            }
            expect(Math.abs(own[column]! - w.old[row * TOTAL + column]! - sum)).toBeLessThan(1e-5 * inputs);
          }
        }
        // Rows that are not in use stay what they were.
        expect([...out.subarray(slots.length * TOTAL)]).toEqual([...w.old.subarray(slots.length * TOTAL)]);
      },
    );
  });

  it('put columns where a buffer keeps them', async () => {
    const w = worldOf(48);
    const old = new Float32Array(w.old.length);
    const whole = await run({ ...w, old }, variant, ROWS[4], 4);
    const cut = await run({ ...w, old }, variant, ROWS[4], 4, [
      { begin: 0, at: 59, count: 45 },
      { begin: 45, at: 0, count: 59 },
    ]);
    for (let row = 0; row < 4; row++) {
      const [a, b] = [whole, cut].map(({ out }) => [...out.subarray(row * TOTAL, (row + 1) * TOTAL)]);
      expect([...b!.slice(59), ...b!.slice(0, 59)]).toEqual(a);
    }
    expect(whole.out.some((x) => x !== 0)).toBe(true);
  });

  it('give a row the same bits alone and among rows of other adapters', async () => {
    const w = worldOf(80);
    const crowd = await run(w, variant, ROWS[64], 64);
    for (const row of [0, 3, 17, 42, 60]) {
      const moved = { ...w, input: w.input.slice(row * 80), old: w.old.slice(row * TOTAL) };
      const alone = await run(moved, variant, [ROWS[64][row]!], 1);
      expect([...alone.out.subarray(0, TOTAL)]).toEqual([...crowd.out.subarray(row * TOTAL, (row + 1) * TOTAL)]);
    }
  });
});

describe.each(['scalar', 'wide'] as const)('gated after matmul, %s', (variant) => {
  it.each([
    [1, 'silu'],
    [8, 'gelu_tanh'],
    [64, 'silu'],
    [128, 'gelu_tanh'],
  ] as const)('is gate_up bit for bit: %d rows, %s', async (bucket, activation) => {
    const rand = random(bucket);
    const [n, k] = [72, 96];
    const count = bucket === 1 ? 1 : bucket - 3;
    const product = {
      variant,
      bucket,
      k,
      dtype: 'bf16' as const,
      step: bench.buffer(Uint32Array.of(0, count)),
      countWord: 1,
      input: bench.buffer(floats(rand, bucket * k, 3)),
      weight: bench.buffer(stored('bf16', floats(rand, 2 * n * k)).words),
    };
    const fused = bench.buffer(new Float32Array(bucket * n).fill(FILL));
    const apart = bench.buffer(new Float32Array(bucket * n).fill(FILL));
    const both = bench.buffer(bucket * 2 * n * 4);
    const shared = { ...product, n, activation };
    await bench.run(
      gateUp({ ...shared, label: 'fused', out: fused }),
      matmul({ ...product, label: 'product', n: 2 * n, out: both, accumulate: false }),
      gated({ ...shared, label: 'gated', columns: { first: 0, of: n }, gateUp: both, out: apart }),
    );
    const expected = new Uint32Array(await bench.read(fused));
    expect([...new Uint32Array(await bench.read(apart))]).toEqual([...expected]);
    // Rows behind those in use are not written.
    if (count < bucket) expect(new Float32Array(expected.buffer).at(-1)).toBe(FILL);
  });
});
