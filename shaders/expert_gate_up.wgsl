// Gated activation of the experts that a row chose: with e = chosen[r][j].expert,
//   out[r * PER_TOKEN + j][i] = act(input[r] . weight[2ne + i]) * (input[r] . weight[2ne + n + i]), act as lib/activation.wgsl has it.
// Layout:    input [rows][k] f32, weight [experts][2n][k] as stored (an expert's gate rows, then its up rows), out [rows * PER_TOKEN][stride]
//            f32, of which n columns from `first` on are written,
//            chosen [rows][PER_TOKEN] (expert, weight), as route_experts.wgsl leaves it.
// Sums:      f32, in the order of lib/tile.wgsl with one row; the same whatever the other rows chose.
// Variants:  as in matmul.wgsl; of COLUMNS products the first half are gates, the second half their ups.
// Constants: QUADS, DTYPE, ROWS (1), COLUMNS, WIDTH (= COLUMNS / 2), GROUP_WIDTH, SEGMENTS, UNROLL, LANES, WORKGROUP, WIDE, GELU, PER_TOKEN. Features: none.
// Bindings:  0 step [count_word] = rows in use; 1 input; 2 weight; 3 out; 4 chosen; 8 shape (lib/product.wgsl).
#include "lib/product.wgsl"
#include "lib/activation.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> chosen: array<vec2<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let pair = tile.z;
  let group = vec3(tile.xy, pair / PER_TOKEN);
#include "lib/tile_place.wgsl"
  let gates = chosen[pair].x * 2 * n;
#for c in 0..WIDTH
  let line_${c} = gates + min(column + ${c}, n - 1);
  let line_${c + WIDTH} = n + line_${c};
#endfor
#include "lib/tile.wgsl"
#if WIDE
  if (lane < GROUP_WIDTH && own_column < n) {
    out[pair * shape.stride + shape.first + own_column] = activate(own_sum(lane, 0)) * own_sum(lane, 1);
  }
#else
#for c in 0..WIDTH
  if (column + ${c} < n) {
    out[pair * shape.stride + shape.first + column + ${c}] = activate(sum_0_${c}) * sum_0_${c + WIDTH};
  }
#endfor
#endif
}
