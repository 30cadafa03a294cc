// The sums of a row's tiles of positions into its attention: out[r][h] = joined tiles' values / weights, as attention_wide.wgsl has it.
// Layout:    partials [rows][HEADS][MAX_TILES][largest score, weights, HEAD_DIM sums] f32, as attention_wide.wgsl leaves them where SPLIT;
//            out [rows][HEADS][HEAD_DIM] f32. One workgroup of PAIRS threads a row and head, one thread a pair of dimensions.
// Sums:      tiles ascending (lib/attention_merge.wgsl).
// Constants: HEADS, PAIRS (= HEAD_DIM / 2), WINDOW, MAX_TILES. Features: none.
// Bindings:  0 rows (slot, position, token, active); 1 partials; 2 out.
#include "lib/attention_merge.wgsl"
#include "lib/window.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> partials: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec2<f32>>;

fn partial(base: u32, tile: u32, pair: u32) -> Attended {
  let at = base + tile * (PAIRS + 1);
  return Attended(partials[at].x, partials[at].y, partials[at + 1 + pair]);
}

@compute @workgroup_size(PAIRS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) pair: u32) {
  let place = rows[group.y];
  if (place.w == 0) {
    return;
  }
  let first = first_seen(place.y);
  let last_tile = place.y / TILE;
  let base = (group.y * HEADS + group.x) * MAX_TILES * (PAIRS + 1);
  var all = partial(base, first / TILE, pair);
  for (var tile = first / TILE + 1; tile <= last_tile; tile += 8) {
    // All are on their way before the first is joined.
#for u in 0..8
    let tile_${u} = partial(base, min(tile + ${u}, last_tile), pair);
#endfor
#for u in 0..8
    if (tile + ${u} <= last_tile) {
      all = joined(all, tile_${u});
    }
#endfor
  }
  out[(group.y * HEADS + group.x) * PAIRS + pair] = all.sum / all.weights;
}
