// K and V as int8: a KV head of a token is scale * q with one scale, q = round(x / scale) in -127..127,
//   scale = max|x| / 127, rounded up to f16, at most 65504: so that no q is cut off below 127 * 65504, and x is off by half a scale at most.
// To f16 and back in integers: WGSL leaves open how pack2x16float rounds, and lets adapters take a subnormal half for 0.
// scale * q is exact in f32 (11 bits by 7). What is not finite gives numbers that are, and changes nothing beside them.
#include "lib/bytes.wgsl"

/// f16 bits of the scale of a head whose largest magnitude is `top`.
fn scale_bits(top: f32) -> u32 {
  let scale = top / 127.0;
  let normal = ((bitcast<u32>(scale) + 0x1fffu) >> 13u) - (112u << 10u);
  let subnormal = u32(ceil(scale * 16777216.0));
  return min(select(normal, subnormal, scale < 6.103515625e-5), 0x7bffu);
}

/// The scale of these bits.
fn scale_from(bits: u32) -> f32 {
  let normal = bitcast<f32>((bits << 13u) + (112u << 23u));
  return select(normal, f32(bits) / 16777216.0, bits < 0x400u);
}

/// Four numbers as the bytes of a word.
fn quantized(x: vec4<f32>, scale: f32) -> u32 {
  let steps = select(vec4<f32>(), x / scale, vec4(scale > 0.0));
  let q = bitcast<vec4<u32>>(clamp(vec4<i32>(round(steps)), vec4(-127), vec4(127))) & vec4(255u);
  return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}
