// Weights without a download: out[i] = a number of about SCALE in size, drawn by a hash of i; as DTYPE says (lib/dtype.wgsl), and where INTEGERS
// integers of a hash in the layout of lib/blocks.wgsl, all of one scale.
// Layout:    out [words] u32, two 16-bit numbers a word unless f32; integers up to word SCALES_AT, then f16 scales. One thread a word.
// Constants: SCALE, DTYPE, INTEGERS, SCALES_AT, WORDS, GRID (workgroups in x), WORKGROUP, SEED. Features: none. Bindings: 0 out.
#include "lib/dtype.wgsl"

@group(0) @binding(0) var<storage, read_write> out: array<u32>;

fn hashed(i: u32) -> u32 {
  var x = i * 0x9e3779b9u + SEED;
  x ^= x >> 16u;
  x *= 0x85ebca6bu;
  x ^= x >> 13u;
  x *= 0xc2b2ae35u;
  x ^= x >> 16u;
  return x;
}

fn drawn(i: u32) -> f32 {
  return (f32(hashed(i)) / 4294967296.0 - 0.5) * 3.4 * f32(SCALE);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let word = id.y * GRID * WORKGROUP + id.x;
  if (word >= WORDS) {
    return;
  }
#if INTEGERS
  out[word] = select(pack2x16float(vec2(f32(SCALE))), hashed(word), word < SCALES_AT);
#else
#if DTYPE == 0
  out[word] = bitcast<u32>(drawn(word));
#else
  out[word] = pack_pair(vec2(drawn(2 * word), drawn(2 * word + 1)));
#endif
#endif
}
