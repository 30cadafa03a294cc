// Gated activation for many rows, GPUs: the same function, layouts, bindings and order of sums as gate_up.wgsl.
// Variants:  wide only, k a multiple of 8.
// Constants: as of matmul_block.wgsl but BIAS and ACCUMULATE; LINE_GROUPS even: the first half are gates, the second half their ups; GELU.
//            Features: none.
#include "lib/block_product.wgsl"
#include "lib/activation.wgsl"

const WIDTH = BLOCK_LINES / 2;

fn line_of(slot: u32, first_column: u32) -> u32 {
  let line = min(first_column + slot % WIDTH, shape.n - 1);
  return select(line, line + shape.n, slot >= WIDTH);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_column = (group.y * shape.grid + group.x) * WIDTH;
#include "lib/block_tile.wgsl"
#for g in 0..ROW_GROUPS
#for r in 0..4
  {
    let row = first_row + (${g} * TY + ty) * 4 + ${r};
    if (row < rows) {
#for h in 0..LINE_GROUPS / 2
#for c in 0..4
      if (first_column + (${h} * TX + tx) * 4 + ${c} < n) {
        let column = first_column + (${h} * TX + tx) * 4 + ${c};
        out[row * shape.stride + shape.first + column] = activate(total_${g}_${r}_${h}[${c}]) * total_${g}_${r}_${h + LINE_GROUPS / 2}[${c}];
      }
#endfor
#endfor
    }
  }
#endfor
#endfor
}
