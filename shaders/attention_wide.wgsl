// Paged causal attention, GPUs: the same function, layouts and bindings as attention_scalar.wgsl.
// One workgroup of LANES lanes a row and head. Positions are cut into tiles of LANES at absolute multiples of LANES:
// first lane l scores position l of the tile, then lane l sums pairs l, l + LANES, ... of the output's dimensions.
// Sums:      f32. A score: each component of a quad apart by fma, quads ascending, then x + y + z + w. A tile's weights: a tree
//            of lanes (lib/lane_sum.wgsl); V: the tile's positions ascending by fma; tiles ascending, online softmax.
//            The order depends on the row's position and window alone.
// Constants: as in attention_scalar.wgsl, and LANES. Workgroup memory: 4 (2 LANES + HEAD_DIM) bytes and lib/lane_sum.wgsl's.
#include "lib/dtype.wgsl"
#include "lib/kv.wgsl"
#include "lib/softcap.wgsl"
#include "lib/lane_sum.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> k_pool: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> v_pool: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<vec2<f32>>;

const QUADS = HEAD_DIM / 4;
const PAIRS = HEAD_DIM / 2;

var<workgroup> query: array<vec4<f32>, QUADS>;
var<workgroup> tile_weights: array<f32, LANES>;
var<workgroup> tile_elements: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let place = rows[group.y];
  if (place.w == 0) {
    return;
  }
  for (var i = lane; i < QUADS; i += LANES) {
    query[i] = q[(group.y * HEADS + head) * QUADS + i] * f32(SCALE);
  }
#for i in 0..(HEAD_DIM / 2 + LANES - 1) / LANES
  var sum_${i} = vec2<f32>();
#endfor
  var first = 0u;
#if WINDOW > 0
  first = max(place.y + 1, WINDOW) - WINDOW;
#endif
  var top = -1.0e30;
  var weights = 0.0;
  workgroupBarrier();
  for (var tile = first / LANES; tile <= place.y / LANES; tile++) {
    let position = tile * LANES + lane;
    let seen = position >= first && position <= place.y;
    var score = -1.0e30;
    if (seen) {
      let element = kv_element(place.x, position, head / (HEADS / KV_HEADS));
      tile_elements[lane] = element;
      var dots = vec4<f32>();
      for (var i = 0u; i < HEAD_DIM / 8; i++) {
#if DTYPE == 0
        let k = unpack_eight(k_pool[element / 4 + 2 * i], k_pool[element / 4 + 2 * i + 1]);
#else
        let k = unpack_eight(k_pool[element / 8 + i]);
#endif
        dots = fma(query[2 * i], k.low, dots);
        dots = fma(query[2 * i + 1], k.high, dots);
      }
      score = softcap(dots.x + dots.y + dots.z + dots.w);
    }
    let new_top = max(top, lane_max(lane, score));
    let shrink = exp(top - new_top);
    let weight = select(0.0, exp(score - new_top), seen);
    tile_weights[lane] = weight;
    weights = fma(weights, shrink, lane_sum(lane, weight));
    top = new_top;
#for i in 0..(HEAD_DIM / 2 + LANES - 1) / LANES
    sum_${i} *= shrink;
#endfor
    let begin = max(first, tile * LANES) - tile * LANES;
    let end = min(place.y + 1 - tile * LANES, LANES);
    for (var j = begin; j < end; j++) {
#for i in 0..(HEAD_DIM / 2 + LANES - 1) / LANES
      {
        // Lanes past the last pair read it too: they write nothing.
        let pair = min(lane + ${i} * LANES, PAIRS - 1);
#if DTYPE == 0
        let at = tile_elements[j] + 2 * pair;
        let v = vec2(bitcast<f32>(v_pool[at]), bitcast<f32>(v_pool[at + 1]));
#else
        let v = unpack_pair(v_pool[tile_elements[j] / 2 + pair]);
#endif
        sum_${i} = fma(vec2(tile_weights[j]), v, sum_${i});
      }
#endfor
    }
    // The next tile overwrites what this loop read.
    workgroupBarrier();
  }
#for i in 0..(HEAD_DIM / 2 + LANES - 1) / LANES
  if (lane + ${i} * LANES < PAIRS) {
    out[(group.y * HEADS + head) * PAIRS + lane + ${i} * LANES] = sum_${i} / weights;
  }
#endfor
}
