// What the products of lib/block_tile.wgsl share: their tiles in workgroup memory.
#include "lib/product.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

/// [k][row of the block], [k][line of the block]
var<workgroup> input_tile: array<f32, DEPTH * BLOCK_ROWS>;
var<workgroup> line_tile: array<f32, DEPTH * BLOCK_LINES>;
