// Weights as integers q in blocks along k, by DTYPE:
//   3 int8       scale * q,        blocks of 32, q in -128..127
//   4 int8-min   scale * q + min,  blocks of 32, q in -128..127
//   5 int8-16    scale * q,        blocks of 16, q in -128..127
//   6 int4       scale * (q - 8),  blocks of 32, q in 0..15
//   7 int4-min   scale * q + min,  blocks of 32, q in 0..15
// Layout: all rows of integers, k ascending from the low bits of a word on, each row padded to runs of 32; then, from word `scales_at`,
//   all rows of scales, whole words a row: 3, 6: f16, two a word, low half first; 4, 7: f16 scale in the low half, f16 min in the
//   high one; 5: f32.
// Numbers become f32: scale * q is exact with f16 scales (at most 19 bits), so that the sum with min is rounded once, and the same,
//   whether or not a compiler contracts it; with f32 scales the product is rounded once.
// Needs: lib/dtype.wgsl (Eight), `weight` as array<vec4<u32>>.
#include "lib/bytes.wgsl"
const RUN = 32u;

#if DTYPE >= 6
/// The eight integers of a word of nibbles.
fn integers(words: vec2<u32>) -> Eight {
  let low = (vec4(words.x) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u);
  let high = (vec4(words.x) >> vec4(16u, 20u, 24u, 28u)) & vec4(15u);
#if DTYPE == 6
  return Eight(vec4<f32>(low) - 8.0, vec4<f32>(high) - 8.0);
#else
  return Eight(vec4<f32>(low), vec4<f32>(high));
#endif
}
#else
/// The eight integers of two words of bytes.
fn integers(words: vec2<u32>) -> Eight {
  return Eight(signed_bytes(words.x), signed_bytes(words.y));
}
#endif

/// Scale and min of the block that chunk `chunk` (of eight numbers) of row `line` lies in; `runs` of a row.
fn scale_of(line: u32, chunk: u32, runs: u32, scales_at: u32) -> vec2<f32> {
#if DTYPE == 3 || DTYPE == 6
  let word = scales_at + line * ((runs + 1) / 2) + chunk / 8;
  return vec2(unpack2x16float(weight[word / 4][word % 4])[chunk / 4 % 2], 0.0);
#else
#if DTYPE == 5
  let word = scales_at + line * runs * 2 + chunk / 2;
  return vec2(bitcast<f32>(weight[word / 4][word % 4]), 0.0);
#else
  let word = scales_at + line * runs + chunk / 4;
  return unpack2x16float(weight[word / 4][word % 4]);
#endif
#endif
}

/// Eight numbers from their integers.
fn scaled(q: Eight, scale: vec2<f32>) -> Eight {
#if DTYPE == 4 || DTYPE == 7
  return Eight(q.low * scale.x + scale.y, q.high * scale.x + scale.y);
#else
  return Eight(q.low * scale.x, q.high * scale.x);
#endif
}

/// Numbers 8 `chunk` to 8 `chunk` + 7 of row `line`.
fn decode_eight(line: u32, chunk: u32, runs: u32, scales_at: u32) -> Eight {
#if DTYPE >= 6
  let word = line * runs * 4 + chunk;
  let words = vec2(weight[word / 4][word % 4], 0u);
#else
  let pair = line * runs * 4 + chunk;
  let words = vec2(weight[pair / 2][pair % 2 * 2], weight[pair / 2][pair % 2 * 2 + 1]);
#endif
  return scaled(integers(words), scale_of(line, chunk, runs, scales_at));
}

/// The four eights of one run.
struct Run {
  eight_0: Eight,
  eight_1: Eight,
  eight_2: Eight,
  eight_3: Eight,
}

/// Numbers 32 `run` to 32 `run` + 31 of row `line`: the same as four times decode_eight, in fewer and wider loads.
fn decode_run(line: u32, run: u32, runs: u32, scales_at: u32) -> Run {
  let scale = scale_of(line, run * 4, runs, scales_at);
#if DTYPE == 5
  let upper = scale_of(line, run * 4 + 2, runs, scales_at);
#else
  let upper = scale;
#endif
#if DTYPE >= 6
  let words = weight[line * runs + run];
  return Run(
    scaled(integers(vec2(words.x, 0u)), scale),
    scaled(integers(vec2(words.y, 0u)), scale),
    scaled(integers(vec2(words.z, 0u)), upper),
    scaled(integers(vec2(words.w, 0u)), upper),
  );
#else
  let low = weight[(line * runs + run) * 2];
  let high = weight[(line * runs + run) * 2 + 1];
  return Run(
    scaled(integers(low.xy), scale),
    scaled(integers(low.zw), scale),
    scaled(integers(high.xy), upper),
    scaled(integers(high.zw), upper),
  );
#endif
}
