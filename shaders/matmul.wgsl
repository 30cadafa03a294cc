// Matrix product: out[r][j] = sum_k input[r][k] * weight[j][k]  (+ bias[j])  (+ the old out[r][j] when ACCUMULATE).
// Layout:    input [rows][k] f32, weight [n][k] as stored (lib/dtype.wgsl, lib/blocks.wgsl), bias [stride] f32, out [rows][stride] f32, of which
//            n columns from `first` on are written (all of them, where first = 0 and stride = n).
//            NORM: the input is RMS normed first (lib/norm_input.wgsl).
// Sums:      f32, in the order of lib/tile.wgsl, the same whatever the bucket, the row's place and the other rows.
//            Then + bias, then + the old value.
// Variants:  scalar (LANES 1): a thread computes ROWS x COLUMNS outputs alone; no barriers, no workgroup memory.
//            WIDE: a workgroup of LANES lanes computes ROWS x GROUP_WIDTH outputs, SEGMENTS lanes sharing the k of each
//            (scalar: SEGMENTS 1). The two variants differ in their last bits.
// Constants: QUADS, DTYPE, ROWS, COLUMNS, WIDTH (= COLUMNS), GROUP_WIDTH (columns of a workgroup),
//            SEGMENTS, UNROLL, ONE_PASS, ONE_ROW, NORM, LANES, WORKGROUP, WIDE, BIAS, ACCUMULATE. Features: none.
// Bindings:  0 step [count_word] = rows in use; 1 input; 2 weight; 3 out; 4 bias (when BIAS); 8 shape (lib/product.wgsl).
#include "lib/product.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#include "lib/store.wgsl"

#if NORM
#include "lib/norm_input.wgsl"
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
#include "lib/tile_place.wgsl"
#for c in 0..COLUMNS
  let line_${c} = min(column + ${c}, n - 1);
#endfor
#include "lib/tile.wgsl"
#if WIDE
  if (lane < ROWS * GROUP_WIDTH && own_row < rows && own_column < n) {
    store(own_row, own_column, own_sum(lane, 0));
  }
#else
#for r in 0..ROWS
#for c in 0..COLUMNS
  if (row + ${r} < rows && column + ${c} < n) {
    store(row + ${r}, column + ${c}, sum_${r}_${c});
  }
#endfor
#endfor
#endif
}
