// Gated activation by matrix instructions: the same function, layouts and bindings as gate_up.wgsl.
// Numbers, sums, features: as in matmul_matrix.wgsl.
// Constants: as of matmul_matrix.wgsl but BIAS, ACCUMULATE and DIRECT; TILE_COLUMNS even: the first half of a subgroup's matrices are gates,
//            the second half their ups; GELU.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
#include "lib/matrix_product.wgsl"
#include "lib/activation.wgsl"

/// Columns of `out` of a subgroup.
const WIDTH = TILE_COLUMNS * MATRIX / 2;

var<workgroup> result: array<f32, 2 * SUBGROUP_ROWS * SUBGROUP_COLUMNS * PARTS * MATRIX * MATRIX>;

fn line_of(slot: u32, first_column: u32) -> u32 {
  let own = slot % (2 * WIDTH);
  let line = min(first_column + slot / (2 * WIDTH) * WIDTH + own % WIDTH, shape.n - 1);
  return select(line, line + shape.n, own >= WIDTH);
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first_column = (group.y * shape.grid + group.x) * (BLOCK_LINES / 2);
#include "lib/matrix_tile.wgsl"
#for r in 0..TILE_ROWS
#for c in 0..TILE_COLUMNS / 2
  {
    let row = first_row + tile_row + ${r} * MATRIX;
    let column = first_column + tile_line / 2 + ${c} * MATRIX;
    let own = 2 * subgroup * MATRIX * MATRIX;
    subgroupMatrixStore<row_major>(&result, own, sum_${r}_${c}, MATRIX);
    subgroupMatrixStore<row_major>(&result, own + MATRIX * MATRIX, sum_${r}_${c + TILE_COLUMNS / 2}, MATRIX);
    workgroupBarrier();
    for (var i = part * 32 + lane; i < MATRIX * MATRIX; i += PARTS * 32) {
      if (row + i / MATRIX < rows && column + i % MATRIX < n) {
        var gate = 0.0;
        var up = 0.0;
#for p in 0..PARTS
        gate += result[2 * (tile * PARTS + ${p}) * MATRIX * MATRIX + i];
        up += result[(2 * (tile * PARTS + ${p}) + 1) * MATRIX * MATRIX + i];
#endfor
        out[(row + i / MATRIX) * shape.stride + shape.first + column + i % MATRIX] = activate(gate) * up;
      }
    }
    workgroupBarrier();
  }
#endfor
#endfor
}
