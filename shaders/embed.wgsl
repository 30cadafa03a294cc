// Embedding: out[r][i] = weight[token of row r - FIRST][i] * SCALE, for tokens FIRST to FIRST + TOKENS - 1; other rows stay,
//            those of embeddings that a request brought among them: their token is 0xffffffff.
// Layout:    weight [TOKENS][WIDTH] as stored (lib/dtype.wgsl, lib/blocks.wgsl), out [rows][WIDTH] f32.
// Constants: FIRST, TOKENS, WIDTH, DTYPE, SCALES_AT (lib/blocks.wgsl), SCALE, WORKGROUP. No sums; one thread an element, one row of workgroups a row.
// Bindings:  0 rows [rows] (slot, position, token, active); 1 weight; 2 out. Features: none.
#include "lib/dtype.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
#if DTYPE >= 3
@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read> weight: array<u32>;
#endif
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
#if DTYPE >= 3
#include "lib/blocks.wgsl"
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = rows[id.y];
  let line = row.z - FIRST;
  if (row.w == 0 || id.x >= WIDTH || line >= TOKENS) {
    return;
  }
#if DTYPE >= 3
  let eight = decode_eight(line, id.x / 8, (WIDTH + RUN - 1) / RUN, SCALES_AT);
  let value = select(eight.low[id.x % 4], eight.high[id.x % 4], id.x % 8 > 3);
#else
  let element = line * WIDTH + id.x;
#if DTYPE == 0
  let value = bitcast<f32>(weight[element]);
#else
  let value = unpack_pair(weight[element / 2])[element % 2];
#endif
#endif
  out[id.y * WIDTH + id.x] = value * f32(SCALE);
}
