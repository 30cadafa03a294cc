// What the products of lib/matrix_tile.wgsl share: their tiles in workgroup memory.
#include "lib/product.wgsl"
#include "lib/matrix.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

/// Words of four in a line of a tile: DEPTH numbers, and a gap that keeps lines apart in the banks of workgroup memory.
const STRIDE = DEPTH / 8 + 1;

/// [row of the block][k], [line of the block][k]
var<workgroup> input_tile: array<vec4<u32>, BLOCK_ROWS * STRIDE>;
var<workgroup> line_tile: array<vec4<u32>, BLOCK_LINES * STRIDE>;
