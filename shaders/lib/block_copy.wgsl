// Places of a copy between the KV pool and a staging buffer [layer][K, V][block][QUADS].
// Constants: QUADS. Bindings: 8 LAYER.
const JOB_BLOCKS = 0u;
const JOB_FIRST_LAYER = 1u;
const JOB_IDS = 4u;

struct Place {
  layer: u32,
}

@group(0) @binding(8) var<uniform> place: Place;

/// Number of the quad in staging that thread `id` (quad, block of the section, part) copies.
fn staging_quad(blocks: u32, first_layer: u32, id: vec3<u32>) -> u32 {
  return (((place.layer - first_layer) * 2 + id.z) * blocks + id.y) * QUADS + id.x;
}
