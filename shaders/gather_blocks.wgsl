// K and V of some blocks of one layer, out of the pool into a contiguous staging buffer; bits are copied as they are:
//   staging[((LAYER - first layer) * 2 + part) * blocks + i][quad] = pool_part[ids[i]][quad]     (part: 0 K, 1 V)
// Layout:    job: u32 words: blocks, first layer, 0, 0, ids[blocks]; pools [block][QUADS] and
//            staging [layer][K, V][block][QUADS] of four words each, whatever dtype they hold.
// Constants: QUADS (of one block in one pool), WORKGROUP.
// Bindings:  0 job; 1 kPool; 2 vPool; 3 staging; 8 LAYER.
// Dispatch:  x: quads, y: blocks, z: 2 parts.
// Features:  none.
#include "lib/block_copy.wgsl"

@group(0) @binding(0) var<storage, read> job: array<u32>;
@group(0) @binding(1) var<storage, read> k_pool: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> v_pool: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> staging: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= QUADS) {
    return;
  }
  let place_from = job[JOB_IDS + id.y] * QUADS + id.x;
  let place_to = staging_quad(job[JOB_BLOCKS], job[JOB_FIRST_LAYER], id);
  if (id.z == 0) {
    staging[place_to] = k_pool[place_from];
  } else {
    staging[place_to] = v_pool[place_from];
  }
}
