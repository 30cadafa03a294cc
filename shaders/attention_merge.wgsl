// The sums of a row's tiles of positions into its attention: out[r][h] = joined tiles' values / weights, as attention_wide.wgsl has it.
// Layout:    partials [rows][HEADS][MAX_TILES][largest score, weights, HEAD_DIM sums] f32, as attention_wide.wgsl leaves them where SPLIT;
//            out [rows][HEADS][HEAD_DIM] f32. One workgroup of 64 threads a row, head and SLICE pairs of dimensions: 64 tiles at a time
//            are read by all threads, one tile's factors computed by each, and joined by one thread a pair of dimensions.
// Sums:      tiles ascending (lib/attention_merge.wgsl).
// Constants: HEADS, PAIRS (= HEAD_DIM / 2), WINDOW, MAX_TILES, SLICE, at most 64. Workgroup memory: 1296 + 512 SLICE bytes. Features: none.
// Bindings:  0 rows (slot, position, token, active); 1 partials; 2 out.
#include "lib/attention_merge.wgsl"
#include "lib/window.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> partials: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec2<f32>>;

/// Tiles at a time.
const CHUNK = 64u;
/// Tiles whose largest score is found by one thread.
const PART = 16u;
const SLICES = (PAIRS + SLICE - 1) / SLICE;
const LEAST = -1.0e30f;

/// [tile][pair]
var<workgroup> sums: array<vec2<f32>, CHUNK * SLICE>;
var<workgroup> tops: array<f32, CHUNK>;
var<workgroup> part_tops: array<f32, CHUNK / PART>;
/// Of each tile: what the sums before it and its own are multiplied by, its weights, the largest score so far.
var<workgroup> joins: array<vec4<f32>, CHUNK>;

@compute @workgroup_size(CHUNK)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let place = rows[group.y];
  if (place.w == 0) {
    return;
  }
  let head = group.x / SLICES;
  let first_pair = group.x % SLICES * SLICE;
  let first = first_seen(place.y) / TILE;
  let last = place.y / TILE;
  let base = (group.y * HEADS + head) * MAX_TILES * (PAIRS + 1);
  var all = Attended(LEAST, 0.0, vec2<f32>());
  for (var begin = first; begin <= last; begin += CHUNK) {
    let count = min(last + 1 - begin, CHUNK);
    let own = partials[base + (begin + min(lane, count - 1)) * (PAIRS + 1)];
#for l in 0..SLICE
    let sum_${l} = partials[base + (begin + min((lane + ${l} * CHUNK) / SLICE, count - 1)) * (PAIRS + 1) + 1 + min(first_pair + (lane + ${l} * CHUNK) % SLICE, PAIRS - 1)];
#endfor
    tops[lane] = own.x;
    workgroupBarrier();
    if (lane < CHUNK / PART) {
      var top = LEAST;
      for (var i = 0u; i < PART; i++) {
        top = max(top, tops[lane * PART + i]);
      }
      part_tops[lane] = top;
    }
    // The largest score before this tile: of earlier chunks, of its part, of the parts before.
    var top = all.top;
    for (var i = 0u; i < PART - 1; i++) {
      top = max(top, select(LEAST, tops[lane / PART * PART + i], i < lane % PART));
    }
    workgroupBarrier();
    for (var i = 0u; i < CHUNK / PART - 1; i++) {
      top = max(top, select(LEAST, part_tops[i], i < lane / PART));
    }
    let join = join_of(top, own.x);
    joins[lane] = vec4(join.shrink, join.grow, own.y, join.top);
#for l in 0..SLICE
    sums[lane + ${l} * CHUNK] = sum_${l};
#endfor
    workgroupBarrier();
    if (lane < SLICE) {
      var tile = 0u;
      if (begin == first) {
        all.weights = joins[0].z;
        all.sum = sums[lane];
        tile = 1;
      }
      for (; tile < count; tile += 8) {
        // All are on their way before the first is joined.
#for u in 0..8
        let join_${u} = joins[min(tile + ${u}, CHUNK - 1)];
        let sum_of_${u} = sums[min(tile + ${u}, CHUNK - 1) * SLICE + lane];
#endfor
#for u in 0..8
        if (tile + ${u} < count) {
          all.weights = fma(join_${u}.z, join_${u}.y, all.weights * join_${u}.x);
          all.sum = fma(sum_of_${u}, vec2(join_${u}.y), all.sum * join_${u}.x);
        }
#endfor
      }
    }
    all.top = joins[count - 1].w;
    // The next chunk overwrites what this one read.
    workgroupBarrier();
  }
  if (lane < SLICE && first_pair + lane < PAIRS) {
    out[(group.y * HEADS + head) * PAIRS + first_pair + lane] = all.sum / all.weights;
  }
}
