// Matrix product for many rows, GPUs: the same function, layouts, bindings and order of sums as matmul.wgsl.
// Variants:  wide only, k a multiple of 8.
// Constants: TX, TY, THREADS (= TX TY), ROW_GROUPS, LINE_GROUPS, BLOCK_ROWS (= 4 TY ROW_GROUPS) and BLOCK_LINES (= 4 TX LINE_GROUPS), multiples of 32,
//            DEPTH, SEGMENTS, DTYPE, QUADS (1), WIDE (0: nothing of lib/product.wgsl's lanes), BIAS, ACCUMULATE. Features: none. Workgroup memory: 4 DEPTH (BLOCK_ROWS + BLOCK_LINES) bytes.
#include "lib/block_product.wgsl"
#include "lib/store.wgsl"

fn line_of(slot: u32, first_column: u32) -> u32 {
  return min(first_column + slot, shape.n - 1);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_column = (group.y * shape.grid + group.x) * BLOCK_LINES;
#include "lib/block_tile.wgsl"
#for g in 0..ROW_GROUPS
#for r in 0..4
  {
    let row = first_row + (${g} * TY + ty) * 4 + ${r};
    if (row < rows) {
#for h in 0..LINE_GROUPS
#for c in 0..4
      if (first_column + (${h} * TX + tx) * 4 + ${c} < n) {
        store(row, first_column + (${h} * TX + tx) * 4 + ${c}, total_${g}_${r}_${h}[${c}]);
      }
#endfor
#endfor
    }
  }
#endfor
#endfor
}
