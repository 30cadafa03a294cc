// Numbers as they are stored, in u32 words: DTYPE 0 = f32, 1 = bf16 (two a word, low half first), 2 = f16 (the same); from 3 on:
// integers in blocks (lib/blocks.wgsl).
// Packing: bf16 rounds to nearest, ties to even; f16 clamps to +-65504 first, since larger values would become infinite.

#if DTYPE == 1
fn unpack_pair(word: u32) -> vec2<f32> {
  return vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn pack_pair(pair: vec2<f32>) -> u32 {
  let bits = bitcast<vec2<u32>>(pair);
  let rounded = bits + 0x7fffu + ((bits >> vec2(16u)) & vec2(1u));
  return (rounded.x >> 16u) | (rounded.y & 0xffff0000u);
}
#endif
#if DTYPE == 2
fn unpack_pair(word: u32) -> vec2<f32> {
  return unpack2x16float(word);
}

fn pack_pair(pair: vec2<f32>) -> u32 {
  return pack2x16float(clamp(pair, vec2(-65504.0), vec2(65504.0)));
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
