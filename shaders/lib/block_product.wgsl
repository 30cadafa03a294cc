// What the products of lib/block_tile.wgsl share: their tiles in workgroup memory, and how weights are read.
#include "lib/product.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

/// [k][row of the block], [k][line of the block]
var<workgroup> input_tile: array<f32, DEPTH * BLOCK_ROWS>;
var<workgroup> line_tile: array<f32, DEPTH * BLOCK_LINES>;

/// Eight numbers of `weight`, `chunk` counted from its beginning.
fn weight_chunk(chunk: u32) -> Eight {
#if DTYPE == 0
  return unpack_eight(weight[2 * chunk], weight[2 * chunk + 1]);
#else
  return unpack_eight(weight[chunk]);
#endif
}
