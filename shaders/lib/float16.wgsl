// 16-bit floats, two a word, low half first. Packing: bf16 rounds to nearest, ties to even; f16 clamps to +-65504 first, since larger
// values would become infinite.
const F16_MAX = 65504.0;

fn unpack_bf16(word: u32) -> vec2<f32> {
  return vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn pack_bf16(pair: vec2<f32>) -> u32 {
  let bits = bitcast<vec2<u32>>(pair);
  let rounded = bits + 0x7fffu + ((bits >> vec2(16u)) & vec2(1u));
  return (rounded.x >> 16u) | (rounded.y & 0xffff0000u);
}

fn unpack_f16(word: u32) -> vec2<f32> {
  return unpack2x16float(word);
}

fn pack_f16(pair: vec2<f32>) -> u32 {
  return pack2x16float(clamp(pair, vec2(-F16_MAX), vec2(F16_MAX)));
}
