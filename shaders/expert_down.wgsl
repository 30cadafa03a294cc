// What the chosen experts give a row: out[r] (+)= sum_j w_j * (input[r * PER_TOKEN + j] . weight[e_j]), with (e_j, w_j) = chosen[r][j].
//   out[r][i] = [old out[r][i] when ACCUMULATE +] sum_j w_j * sum_k input[r * PER_TOKEN + j][k] * weight[e_j][i][k]
// Layout:    input [rows * PER_TOKEN][k] f32, weight [experts][n][k] as stored, out [rows][stride] f32, of which n columns from `first` on are written,
//            chosen [rows][PER_TOKEN] (expert, weight), as route_experts.wgsl leaves it.
// Sums:      f32; over k in the order of lib/tile.wgsl with one row, over j ascending by fma, then + the old value.
// Variants:  as in matmul.wgsl.
// Constants: QUADS, DTYPE, ROWS (1), COLUMNS, WIDTH (= COLUMNS), GROUP_WIDTH, SEGMENTS, UNROLL, LANES, WORKGROUP, WIDE, PER_TOKEN, ACCUMULATE. Features: none.
// Bindings:  0 step [count_word] = rows in use; 1 input; 2 weight; 3 out; 4 chosen; 8 shape (lib/product.wgsl).
#include "lib/product.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> chosen: array<vec2<u32>>;

fn store(at: u32, sum: f32) {
#if ACCUMULATE
  out[at] += sum;
#else
  out[at] = sum;
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let token = group.z;
#include "lib/tile_place.wgsl"
#if WIDE
  var total = 0.0;
#else
#for c in 0..COLUMNS
  var total_${c} = 0.0;
#endfor
#endif
  for (var j = 0u; j < PER_TOKEN; j++) {
    let choice = chosen[token * PER_TOKEN + j];
    let weight_of_choice = bitcast<f32>(choice.y);
    let row = token * PER_TOKEN + j;
#for c in 0..COLUMNS
    let line_${c} = choice.x * n + min(column + ${c}, n - 1);
#endfor
#include "lib/tile.wgsl"
#if WIDE
    if (lane < GROUP_WIDTH) {
      total = fma(weight_of_choice, own_sum(lane, 0), total);
    }
    // The next expert's sums go where these were read.
    workgroupBarrier();
#else
#for c in 0..COLUMNS
    total_${c} = fma(weight_of_choice, sum_0_${c}, total_${c});
#endfor
#endif
  }
#if WIDE
  if (lane < GROUP_WIDTH && first_column + lane < n) {
    store(token * shape.stride + shape.first + first_column + lane, total);
  }
#else
#for c in 0..COLUMNS
  if (column + ${c} < n) {
    store(token * shape.stride + shape.first + column + ${c}, total_${c});
  }
#endfor
#endif
}
