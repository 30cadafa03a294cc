import { expect, test } from 'vitest';
import { widen } from '../../../src/engine/weights/float16.ts';

const bytesOf = (halves: number[]): Uint8Array => new Uint8Array(Uint16Array.from(halves).buffer);

test('f16: values of IEEE 754 binary16 by hand', () => {
  const table: [bits: number, value: number][] = [
    [0x3c00, 1],
    [0xc000, -2],
    [0x3555, 0.333251953125],
    [0x7bff, 65504],
    [0x0400, 2 ** -14],
    [0x03ff, 2 ** -14 - 2 ** -24],
    [0x0001, 2 ** -24],
    [0x8000, -0],
    [0x7c00, Number.POSITIVE_INFINITY],
    [0xfc00, Number.NEGATIVE_INFINITY],
    [0x7e00, Number.NaN],
  ];
  expect([...widen(bytesOf(table.map(([bits]) => bits)), 'F16')]).toEqual(table.map(([, value]) => value));
});

test('bf16: the upper half of the f32', () => {
  const values = [1, -2.5, 3.140625, 2 ** -130, Number.POSITIVE_INFINITY];
  const halves = values.map((v) => new Uint32Array(Float32Array.of(v).buffer)[0]! >>> 16);
  expect([...widen(bytesOf(halves), 'BF16')]).toEqual(values);
});

test('f32, also from bytes that are not aligned', () => {
  const odd = new Uint8Array(9);
  odd.set(new Uint8Array(Float32Array.of(1.5, -7).buffer), 1);
  expect([...widen(odd.subarray(1), 'F32')]).toEqual([1.5, -7]);
});
