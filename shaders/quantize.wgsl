// Rows of floats to integers in blocks of 32 along k (lib/blocks.wgsl, int8 and int4), each with a f16 scale.
//   int8 (BITS 8): scale = max|w| / 127, q = round(w / scale), in -127..127.
//   int4 (BITS 4): of the scales that put the number of the largest magnitude at -8 + t, t = -0.9, -0.8 .. 0.9, each corrected by least
//     squares for the integers that it gives, the one with the least squared error; q = round(w / scale) + 8, in 0..15. t = 0 gives
//     ggml's Q4_0 before the correction.
// Layout:    source [rows][k] f32/bf16/f16 as stored, weight as lib/blocks.wgsl has it. A block's missing numbers count as 0.
// Constants: DTYPE (of the source), BITS, WORKGROUP. One thread two blocks, whose scales share a word. Features: none.
// Bindings:  0 place (rows in `source`, first row in `weight`, k, scales_at, threads in one row of workgroups); 1 source; 2 weight.
#include "lib/dtype.wgsl"

struct Place {
  rows: u32,
  first_row: u32,
  k: u32,
  scales_at: u32,
  grid: u32,
}
@group(0) @binding(0) var<storage, read> place: Place;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> weight: array<u32>;

const RUN = 32u;

fn number(row: u32, k: u32) -> f32 {
  if (k >= place.k) {
    return 0.0;
  }
  let element = row * place.k + k;
#if DTYPE == 0
  return bitcast<f32>(source[element]);
#else
  return unpack_pair(source[element / 2])[element % 2];
#endif
}

/// As it will be read: rounded to f16, and finite.
fn half(scale: f32) -> f32 {
  return unpack2x16float(pack2x16float(vec2(clamp(scale, -65504.0, 65504.0), 0.0))).x;
}

fn scale_for(row: u32, first: u32) -> f32 {
  var furthest = 0.0;
  for (var i = 0u; i < RUN; i++) {
    let w = number(row, first + i);
    furthest = select(furthest, w, abs(w) > abs(furthest));
  }
#if BITS == 8
  return half(abs(furthest) / 127.0);
#else
  if (furthest == 0.0) {
    return 0.0;
  }
  var best = 0.0;
  var chosen = 0.0;
  for (var t = -9; t <= 9; t++) {
    let inverse = -(8.0 + 0.1 * f32(t)) / furthest;
    var products = 0.0;
    var squares = 0.0;
    for (var i = 0u; i < RUN; i++) {
      let w = number(row, first + i);
      let q = clamp(round(inverse * w), -8.0, 7.0);
      products += w * q;
      squares += q * q;
    }
    // What least squares take off the sum of squares of the numbers.
    let gain = products * products / max(squares, 1.0);
    if (gain > best) {
      best = gain;
      chosen = products / squares;
    }
  }
  return half(chosen);
#endif
}

fn integer(w: f32, scale: f32) -> u32 {
  let q = select(0.0, w / scale, scale != 0.0);
#if BITS == 8
  return u32(i32(clamp(round(q), -127.0, 127.0))) & 255u;
#else
  return u32(i32(clamp(round(q), -8.0, 7.0)) + 8);
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let runs = (place.k + RUN - 1) / RUN;
  let pairs = (runs + 1) / 2;
  let thread = id.y * place.grid + id.x;
  let row = thread / pairs;
  let pair = thread % pairs;
  if (row >= place.rows) {
    return;
  }
  var scales = vec2<f32>();
  for (var side = 0u; side < 2; side++) {
    let run = pair * 2 + side;
    if (run >= runs) {
      break;
    }
    let scale = scale_for(row, run * RUN);
    scales[side] = scale;
    let words = u32(BITS);
    for (var word = 0u; word < words; word++) {
      var packed = 0u;
      for (var i = 0u; i < RUN / words; i++) {
        packed |= integer(number(row, run * RUN + word * (RUN / words) + i), scale) << (i * BITS);
      }
      weight[((place.first_row + row) * runs + run) * words + word] = packed;
    }
  }
  weight[place.scales_at + (place.first_row + row) * pairs + pair] = pack2x16float(scales);
}
