/**
 * XXH3-64 (Yann Collet's xxHash 0.8) of 16 to 128 bytes, given as u32 words: the inputs of block hashes. Its paths for such lengths are a few
 * 64-bit products, done here in halves of 32 bits, since calling WebAssembly or BigInt arithmetic for each costs many times the hash.
 * Takes for granted that the machine is little-endian, as all are that run Node or WebGPU.
 */

/** The first 128 bytes of XXH3's default secret, as little-endian u32 words. */
const SECRET = Uint32Array.of(
  ...[0x396cfeb8, 0xbe4ba423, 0x2c81017c, 0x1cad21f7, 0xe96dd4de, 0xdb979083, 0xa4a44072, 0x1f67b3b7],
  ...[0x4ee679cb, 0x78e5c0cc, 0x7dd05a82, 0x2172ffcc, 0x744608b8, 0x8e2443f7, 0xe69035e0, 0x4c263a81],
  ...[0xbb52283c, 0xcb00c391, 0x8b65d088, 0xa32e531b, 0x97486471, 0x4ef90da2, 0x46ef1938, 0xd8acdea9],
  ...[0x3f76faa8, 0x3f349ce3, 0xc7bbdcf9, 0x1d4f0bc7, 0x4be0518a, 0x3159b4cd, 0xc97e9fc8, 0x647378d9],
);

/** Smallest and largest input, in words. */
export const MIN_WORDS = 4;
export const MAX_WORDS = 32;

/** The secret under a seed. */
export interface SeededSecret {
  /** 16 u64 as pairs of words: even ones plus, odd ones minus the seed. */
  readonly words: Uint32Array;
  /** For 16 bytes: two u64. */
  readonly flips: Uint32Array;
}

export function seededSecret(seed: bigint): SeededSecret {
  const secret = new BigUint64Array(16);
  const plain = (at: number) => (BigInt(SECRET[2 * at + 1]!) << 32n) | BigInt(SECRET[2 * at]!);
  for (let i = 0; i < 16; i++) secret[i] = plain(i) + (i % 2 === 0 ? seed : -seed);
  const flips = BigUint64Array.of(
    BigInt.asUintN(64, (plain(3) ^ plain(4)) + seed),
    BigInt.asUintN(64, (plain(5) ^ plain(6)) - seed),
  );
  return { words: halves(secret), flips: halves(flips) };
}

function halves(values: BigUint64Array): Uint32Array {
  return Uint32Array.from([...values].flatMap((value) => [Number(value & 0xffff_ffffn), Number(value >> 32n)]));
}

/** The running sum and the last product, low and high half. Module variables: an object for each would cost more than the hash. */
let accLow = 0;
let accHigh = 0;
let foldLow = 0;
let foldHigh = 0;

/** words: u32 of the input in order, `MIN_WORDS` to `MAX_WORDS` of them. */
export function xxh3OfWords(words: ArrayLike<number>, { words: secret, flips }: SeededSecret): bigint {
  const count = words.length;
  if (count === 4) {
    ofFour(words[0]!, words[1]!, words[2]!, words[3]!, flips);
    return avalanche();
  }
  // bytes x PRIME64_1; bytes fit into 8 bits.
  const bytes = 4 * count;
  accLow = Math.imul(bytes, 0x85ebca87) >>> 0;
  accHigh = (Math.imul(bytes, 0x9e3779b1) + high(bytes, 0x85ebca87)) >>> 0;
  for (let lane = Math.ceil(count / 8) - 1; lane >= 0; lane--) {
    mix(words, 4 * lane, secret, 8 * lane);
    mix(words, count - 4 * (lane + 1), secret, 8 * lane + 4);
  }
  return avalanche();
}

function ofFour(w0: number, w1: number, w2: number, w3: number, flips: Uint32Array): void {
  const low0 = (w0 ^ flips[0]!) >>> 0;
  const low1 = (w1 ^ flips[1]!) >>> 0;
  const high0 = (w2 ^ flips[2]!) >>> 0;
  const high1 = (w3 ^ flips[3]!) >>> 0;
  fold(low0, low1, high0, high1);
  accLow = 16;
  accHigh = 0;
  // The bytes of the first word in reverse.
  add(swapped(low1), swapped(low0));
  add(high0, high1);
  add(foldLow, foldHigh);
}

function mix(words: ArrayLike<number>, at: number, secret: Uint32Array, from: number): void {
  fold(
    (words[at]! ^ secret[from]!) >>> 0,
    (words[at + 1]! ^ secret[from + 1]!) >>> 0,
    (words[at + 2]! ^ secret[from + 2]!) >>> 0,
    (words[at + 3]! ^ secret[from + 3]!) >>> 0,
  );
  add(foldLow, foldHigh);
}

function add(low: number, high: number): void {
  const sum = accLow + low;
  accLow = sum >>> 0;
  accHigh = (accHigh + high + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
}

/** Upper half of the product of two u32; doubles hold 32 x 16 bits exactly. */
function high(a: number, b: number): number {
  const upper = a * (b >>> 16);
  const lower = a * (b & 0xffff);
  return ((upper + ((lower / 65536) >>> 0)) / 65536) >>> 0;
}

/** a x b as 128 bits, its two halves xored. */
function fold(aLow: number, aHigh: number, bLow: number, bHigh: number): void {
  const p0 = Math.imul(aLow, bLow) >>> 0;
  const middle = high(aLow, bLow) + (Math.imul(aLow, bHigh) >>> 0) + (Math.imul(aHigh, bLow) >>> 0);
  const upper =
    high(aLow, bHigh) + high(aHigh, bLow) + (Math.imul(aHigh, bHigh) >>> 0) + Math.floor(middle / 0x1_0000_0000);
  const top = high(aHigh, bHigh) + Math.floor(upper / 0x1_0000_0000);
  foldLow = (p0 ^ upper) >>> 0;
  foldHigh = (middle ^ top) >>> 0;
}

const result = new Uint32Array(2);
const resultValue = new BigUint64Array(result.buffer);

/** h ^= h >> 37; h *= PRIME_MX1; h ^= h >> 32. */
function avalanche(): bigint {
  const low = (accLow ^ (accHigh >>> 5)) >>> 0;
  const productLow = Math.imul(low, 0x9e3779f9) >>> 0;
  const productHigh = (high(low, 0x9e3779f9) + Math.imul(low, 0x16566791) + Math.imul(accHigh, 0x9e3779f9)) >>> 0;
  result[0] = (productLow ^ productHigh) >>> 0;
  result[1] = productHigh;
  return resultValue[0]!;
}

function swapped(word: number): number {
  return ((word >>> 24) | ((word >>> 8) & 0xff00) | ((word & 0xff00) << 8) | (word << 24)) >>> 0;
}
