// K and V of some blocks of one layer, out of a contiguous staging buffer into the pool; bits are copied as they are:
//   pool_part[ids[i]][quad] = staging[((LAYER - first layer) * 2 + part) * blocks + i][quad]     (part: 0 K, 1 V)
// Layout:    as in gather_blocks.wgsl.
// Constants: QUADS (of one block in one pool), WORKGROUP.
// Bindings:  0 job; 1 staging; 2 kPool; 3 vPool; 8 LAYER.
// Dispatch:  x: quads, y: blocks, z: 2 parts.
// Features:  none.
#include "lib/block_copy.wgsl"

@group(0) @binding(0) var<storage, read> job: array<u32>;
@group(0) @binding(1) var<storage, read> staging: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> k_pool: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> v_pool: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= QUADS) {
    return;
  }
  let place_to = job[JOB_IDS + id.y] * QUADS + id.x;
  let place_from = staging_quad(job[JOB_BLOCKS], job[JOB_FIRST_LAYER], id);
  if (id.z == 0) {
    k_pool[place_to] = staging[place_from];
  } else {
    v_pool[place_to] = staging[place_from];
  }
}
