// Weights without a download: out[i] = a number of about SCALE in size, drawn by a hash of i; f32, bf16 or f16 as DTYPE says.
// Layout:    out [words] u32, two 16-bit numbers a word unless f32. One thread a word.
// Constants: SCALE, DTYPE, WORDS, GRID (workgroups in x), WORKGROUP, SEED. Features: none. Bindings: 0 out.
#include "lib/dtype.wgsl"

@group(0) @binding(0) var<storage, read_write> out: array<u32>;

fn drawn(i: u32) -> f32 {
  var x = i * 0x9e3779b9u + SEED;
  x ^= x >> 16u;
  x *= 0x85ebca6bu;
  x ^= x >> 13u;
  x *= 0xc2b2ae35u;
  x ^= x >> 16u;
  return (f32(x) / 4294967296.0 - 0.5) * 3.4 * f32(SCALE);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let word = id.y * GRID * WORKGROUP + id.x;
  if (word >= WORDS) {
    return;
  }
#if DTYPE == 0
  out[word] = bitcast<u32>(drawn(word));
#else
  out[word] = pack_pair(vec2(drawn(2 * word), drawn(2 * word + 1)));
#endif
}
