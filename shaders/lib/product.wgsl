// What the matrix products share: bindings of their operands, and in the wide variant the sum over a workgroup's lanes.
// input   [rows][k] f32
// weight  [lines][k] as stored (lib/dtype.wgsl)
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
}
@group(0) @binding(8) var<uniform> shape: Shape;

#if QUADS
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<u32>;

fn weight_at(element: u32) -> f32 {
#if DTYPE == 0
  return bitcast<f32>(weight[element]);
#else
  return unpack_pair(weight[element / 2])[element % 2];
#endif
}
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
