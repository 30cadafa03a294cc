// Matrix product by matrix instructions: the same function, layouts and bindings as matmul.wgsl.
// Numbers:   both operands are rounded to f16 (and clamped to its range), sums are f32.
// Sums:      in the order of lib/matrix_tile.wgsl. Only where the order of sums may depend on the batch.
// Variants:  DIRECT: sums begin at the old value (ACCUMULATE) and go to `out` as matrices; no bias, PARTS 1, n a multiple of BLOCK_LINES,
//            and `out` has a place for every row of every block. Else by way of workgroup memory.
// Constants: SUBGROUP_ROWS, SUBGROUP_COLUMNS, TILE_ROWS, TILE_COLUMNS, PARTS, THREADS, BLOCK_ROWS, BLOCK_LINES, DEPTH, DTYPE, QUADS (1), WIDE (0), BIAS, ACCUMULATE, DIRECT.
// Features:  shader-f16, subgroups (of 32), chromium-experimental-subgroup-matrix (16 x 16 x 16, f16 to f32).
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
#include "lib/matrix_product.wgsl"
#if !DIRECT
#include "lib/store.wgsl"

var<workgroup> result: array<f32, SUBGROUP_ROWS * SUBGROUP_COLUMNS * PARTS * MATRIX * MATRIX>;
#endif

fn line_of(slot: u32, first_column: u32) -> u32 {
  return min(first_column + slot, shape.n - 1);
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first_column = (group.y * shape.grid + group.x) * BLOCK_LINES;
#include "lib/matrix_tile.wgsl"
#for r in 0..TILE_ROWS
#for c in 0..TILE_COLUMNS
  {
    let row = first_row + tile_row + ${r} * MATRIX;
    let column = first_column + tile_line + ${c} * MATRIX;
#if DIRECT
    let at = row * shape.stride + shape.first + column;
    subgroupMatrixStore<row_major>(&out, at, sum_${r}_${c}, shape.stride);
#else
    subgroupMatrixStore<row_major>(&result, subgroup * MATRIX * MATRIX, sum_${r}_${c}, MATRIX);
    workgroupBarrier();
    for (var i = part * 32 + lane; i < MATRIX * MATRIX; i += PARTS * 32) {
      if (row + i / MATRIX < rows && column + i % MATRIX < n) {
        var sum = result[tile * PARTS * MATRIX * MATRIX + i];
#for p in 1..PARTS
        sum += result[(tile * PARTS + ${p}) * MATRIX * MATRIX + i];
#endfor
        store(row + i / MATRIX, column + i % MATRIX, sum);
      }
    }
    workgroupBarrier();
#endif
  }
#endfor
#endfor
}
