// Numbers as they are stored, in u32 words: DTYPE 0 = f32, 1 = bf16 (two a word, low half first), 2 = f16 (the same); from 3 on:
// integers in blocks (lib/blocks.wgsl).
#if DTYPE == 1 || DTYPE == 2
#include "lib/float16.wgsl"
#endif

#if DTYPE == 1
fn unpack_pair(word: u32) -> vec2<f32> {
  return unpack_bf16(word);
}

fn pack_pair(pair: vec2<f32>) -> u32 {
  return pack_bf16(pair);
}
#endif
#if DTYPE == 2
fn unpack_pair(word: u32) -> vec2<f32> {
  return unpack_f16(word);
}

fn pack_pair(pair: vec2<f32>) -> u32 {
  return pack_f16(pair);
}
#endif

struct Eight {
  low: vec4<f32>,
  high: vec4<f32>,
}

#if DTYPE == 0
/// Eight consecutive numbers from two quads of words.
fn unpack_eight(first: vec4<u32>, second: vec4<u32>) -> Eight {
  return Eight(bitcast<vec4<f32>>(first), bitcast<vec4<f32>>(second));
}
#endif
#if DTYPE == 1 || DTYPE == 2
/// Eight consecutive numbers from one quad of words.
fn unpack_eight(words: vec4<u32>) -> Eight {
  return Eight(
    vec4(unpack_pair(words.x), unpack_pair(words.y)),
    vec4(unpack_pair(words.z), unpack_pair(words.w)),
  );
}
#endif
