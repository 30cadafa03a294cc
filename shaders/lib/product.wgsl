// What the matrix products share: bindings of their operands, and in the wide variant the sum over a workgroup's lanes.
// input   [rows][k] f32
// weight  [lines][k] as stored (lib/dtype.wgsl, lib/blocks.wgsl)
// Where k is a multiple of 8 (constant QUADS), both are read in quads; else number by number: a 16-bit row may start in mid-word.
#include "lib/dtype.wgsl"

// Sizes are no constants: the products of a model differ in them and share their compiled shaders all the same.
struct Shape {
  n: u32,
  k: u32,
  // column tiles in one row of workgroups
  grid: u32,
  // where `step` holds the number of rows in use
  count_word: u32,
  // word of `weight` where its scales begin (lib/blocks.wgsl)
  scales_at: u32,
  // of `out`: where the n columns begin, and how many a row has
  first: u32,
  stride: u32,
}
@group(0) @binding(8) var<uniform> shape: Shape;

#if QUADS
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read> input: array<f32>;
#endif
#if QUADS || DTYPE >= 3
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
#else
@group(0) @binding(2) var<storage, read> weight: array<u32>;
#endif

#if DTYPE >= 3
#include "lib/blocks.wgsl"

/// Numbers 8 `chunk` to 8 `chunk` + 7 of row `line`.
fn weight_eight(line: u32, chunk: u32) -> Eight {
  return decode_eight(line, chunk, (shape.k + RUN - 1) / RUN, shape.scales_at);
}

/// Numbers 32 `run` to 32 `run` + 31 of row `line`.
fn weight_run(line: u32, run: u32) -> Run {
  return decode_run(line, run, (shape.k + RUN - 1) / RUN, shape.scales_at);
}

/// Number `k` of row `line`.
fn weight_at(line: u32, k: u32) -> f32 {
  let eight = weight_eight(line, k / 8);
  return select(eight.low[k % 4], eight.high[k % 4], k % 8 > 3);
}
#else
#if QUADS
/// Numbers 8 `chunk` to 8 `chunk` + 7 of row `line`.
fn weight_eight(line: u32, chunk: u32) -> Eight {
  let at = line * (shape.k / 8) + chunk;
#if DTYPE == 0
  return unpack_eight(weight[2 * at], weight[2 * at + 1]);
#else
  return unpack_eight(weight[at]);
#endif
}
#else
/// Number `k` of row `line`.
fn weight_at(line: u32, k: u32) -> f32 {
  let element = line * shape.k + k;
#if DTYPE == 0
  return bitcast<f32>(weight[element]);
#else
  return unpack_pair(weight[element / 2])[element % 2];
#endif
}
#endif
#endif

#if WIDE
var<workgroup> partial: array<f32, LANES * ROWS * COLUMNS>;

/// Product `c` of the output that a lane writes: its runs of k, ascending. After lib/tile.wgsl.
fn own_sum(lane: u32, c: u32) -> f32 {
  let own = lane % GROUP_WIDTH;
  let first = (lane / GROUP_WIDTH * COLUMNS + own % WIDTH + c * WIDTH) * LANES + own / WIDTH;
  var sum = 0.0;
  for (var s = 0u; s < SEGMENTS; s++) {
    sum += partial[first + s * (LANES / SEGMENTS)];
  }
  return sum;
}
#endif
