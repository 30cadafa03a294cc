// Embedding: out[r][i] = weight[token of row r][i] * SCALE.
// Layout:    weight [vocabulary][WIDTH] f32/bf16/f16 as stored (lib/dtype.wgsl), out [rows][WIDTH] f32.
// Constants: WIDTH, DTYPE, SCALE, WORKGROUP. No sums; one thread an element, one row of workgroups a row.
// Bindings:  0 rows [rows] (slot, position, token, active); 1 weight; 2 out. Features: none.
#include "lib/dtype.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = rows[id.y];
  if (row.w == 0 || id.x >= WIDTH) {
    return;
  }
  let element = row.z * WIDTH + id.x;
#if DTYPE == 0
  let value = bitcast<f32>(weight[element]);
#else
  let value = unpack_pair(weight[element / 2])[element % 2];
#endif
  out[id.y * WIDTH + id.x] = value * f32(SCALE);
}
