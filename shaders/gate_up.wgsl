// Gated activation: out[r][j] = act(sum_k input[r][k] * weight[j][k]) * sum_k input[r][k] * weight[n + j][k],
//   act as lib/activation.wgsl has it.
// Layout:    input [rows][k] f32, weight [2n][k] as stored (all gate rows, then all up rows), out [rows][stride] f32, of which
//            n columns from `first` on are written.
// Sums:      f32, in the order of lib/tile.wgsl, as in matmul.wgsl.
// Variants:  as in matmul.wgsl; of COLUMNS products the first half are gates, the second half their ups.
// Constants: QUADS, DTYPE, ROWS, COLUMNS, WIDTH (= COLUMNS / 2), GROUP_WIDTH, SEGMENTS, UNROLL, ONE_PASS, ONE_ROW, NORM (as in matmul.wgsl), LANES, WORKGROUP, WIDE,
//            GELU. Features: none.
// Bindings:  0 step [count_word] = rows in use; 1 input; 2 weight; 3 out; 8 shape (lib/product.wgsl).
#include "lib/product.wgsl"
#include "lib/activation.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

#if NORM
#include "lib/norm_input.wgsl"
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
#include "lib/tile_place.wgsl"
#for c in 0..WIDTH
  let line_${c} = min(column + ${c}, n - 1);
  let line_${c + WIDTH} = n + line_${c};
#endfor
#include "lib/tile.wgsl"
#if WIDE
  if (lane < ROWS * GROUP_WIDTH && own_row < rows && own_column < n) {
    out[own_row * shape.stride + shape.first + own_column] = activate(own_sum(lane, 0)) * own_sum(lane, 1);
  }
#else
#for r in 0..ROWS
#for c in 0..WIDTH
  if (row + ${r} < rows && column + ${c} < n) {
    out[(row + ${r}) * shape.stride + shape.first + column + ${c}] = activate(sum_${r}_${c}) * sum_${r}_${c + WIDTH};
  }
#endfor
#endfor
#endif
}
