// What the products of lib/block_tile.wgsl share: their tiles in workgroup memory.
#include "lib/product.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

/// [k][four rows of the block], [k][four lines of the block]
var<workgroup> input_tile: array<vec4<f32>, DEPTH * BLOCK_ROWS / 4>;
var<workgroup> line_tile: array<vec4<f32>, DEPTH * BLOCK_LINES / 4>;
