// Paged causal attention, GPUs: the same function, layouts and bindings as attention_scalar.wgsl.
// One workgroup a row and KV head, for all its GROUP query heads. Positions are cut into tiles of 64 at absolute multiples of 64.
// Sums:      f32. A score: dimensions ascending by fma. A tile: weights exp(score - the tile's largest), added ascending, and weighted
//            values by fma, ascending. Tiles ascending (lib/attention_merge.wgsl). The order depends on the row's position and
//            window alone, and is the same where SPLIT.
// Variants:  SPLIT 0: a workgroup takes all tiles of its row. 1: one tile each (workgroup z), whose sums go to `partials`, for
//            attention_merge.wgsl: where few rows leave a GPU idle. BLOCK_ROWS > 0: rows of blocks are left to attention_block.wgsl.
// Constants: as in attention_scalar.wgsl but WORKGROUP, and GROUP (= HEADS / KV_HEADS), PAIRS (= HEAD_DIM / 2), LANES, SPLIT, MAX_TILES,
//            BLOCK_ROWS. Workgroup memory: 4 (GROUP (HEAD_DIM + 129) + 64) bytes, 512 more with DTYPE 3. Features: none.
// Bindings:  as in attention_scalar.wgsl; 5 is `partials` where SPLIT: [rows][HEADS][MAX_TILES][largest score, weights, HEAD_DIM sums] f32.
#include "lib/kv_read.wgsl"
#include "lib/softcap.wgsl"
#include "lib/attention_merge.wgsl"
#include "lib/window.wgsl"
#if BLOCK_ROWS > 0
#include "lib/row_block.wgsl"
#endif

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<vec2<f32>>;

var<workgroup> query: array<f32, GROUP * HEAD_DIM>;
/// The KV head at each position of the tile; positions that the row does not see stand in by one that it does.
var<workgroup> kv_heads: array<KvHead, 64>;
var<workgroup> scores: array<f32, GROUP * 64>;
var<workgroup> tile_weights: array<f32, GROUP * 64>;
var<workgroup> tops: array<f32, GROUP>;

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let place = rows[group.y];
  if (place.w == 0) {
    return;
  }
#if BLOCK_ROWS > 0
  if (leads(group.y, groups.y) || follows(group.y, groups.y)) {
    return;
  }
#endif
  let first = first_seen(place.y);
#if SPLIT
  if (group.z < first / TILE || group.z > place.y / TILE) {
    return;
  }
  let first_tile = group.z;
  let last_tile = group.z;
#else
  let first_tile = first / TILE;
  let last_tile = place.y / TILE;
#endif
  let first_head = group.x * GROUP;
  for (var i = lane; i < GROUP * HEAD_DIM; i += LANES) {
    query[i] = q[(group.y * HEADS + first_head) * HEAD_DIM + i] * f32(SCALE);
  }
#for i in 0..(GROUP * PAIRS + LANES - 1) / LANES
  let head_${i} = min(lane + ${i} * LANES, GROUP * PAIRS - 1) / PAIRS;
  let pair_${i} = (lane + ${i} * LANES) % PAIRS;
  var all_${i} = Attended();
#endfor
  for (var tile = first_tile; tile <= last_tile; tile++) {
    if (lane < TILE) {
      let position = clamp(tile * TILE + lane, first, place.y);
      kv_heads[lane] = kv_head(place.x, position, group.x);
    }
    workgroupBarrier();
#for i in 0..(GROUP * 64 + LANES - 1) / LANES
    {
      let task = lane + ${i} * LANES;
      if (task < GROUP * TILE) {
        let kv = kv_heads[task % TILE];
        let base = task / TILE * HEAD_DIM;
        var score = 0.0;
        for (var i = 0u; i < HEAD_DIM / 8; i++) {
          let k = key_eight(kv, i);
#for d in 0..4
          score = fma(query[base + 8 * i + ${d}], k.low[${d}], score);
#endfor
#for d in 0..4
          score = fma(query[base + 8 * i + 4 + ${d}], k.high[${d}], score);
#endfor
        }
        let position = tile * TILE + task % TILE;
        scores[task] = select(-1.0e30, softcap(score), position >= first && position <= place.y);
      }
    }
#endfor
    workgroupBarrier();
#for i in 0..(GROUP * 64 + LANES - 1) / LANES
    {
      let task = lane + ${i} * LANES;
      if (task < GROUP * TILE) {
        let base = task / TILE * TILE;
        var top = scores[base];
        for (var j = 1u; j < TILE; j++) {
          top = max(top, scores[base + j]);
        }
        let position = tile * TILE + task % TILE;
        tile_weights[task] = select(0.0, exp(scores[task] - top), position >= first && position <= place.y);
        if (task % TILE == 0) {
          tops[task / TILE] = top;
        }
      }
    }
#endfor
    workgroupBarrier();
#for i in 0..(GROUP * PAIRS + LANES - 1) / LANES
    {
      var here = Attended(tops[head_${i}], 0.0, vec2<f32>());
      for (var j = 0u; j < TILE; j += 16) {
#for u in 0..16
        let v_${u} = value_pair(kv_heads[j + ${u}], pair_${i});
#endfor
#for u in 0..16
        let weight_${u} = tile_weights[head_${i} * TILE + j + ${u}];
        here.weights += weight_${u};
        here.sum = fma(vec2(weight_${u}), v_${u}, here.sum);
#endfor
      }
#if SPLIT
      if (lane + ${i} * LANES < GROUP * PAIRS) {
        let at = ((group.y * HEADS + first_head + head_${i}) * MAX_TILES + tile) * (PAIRS + 1);
        out[at + 1 + pair_${i}] = here.sum;
        if (pair_${i} == 0) {
          out[at] = vec2(here.top, here.weights);
        }
      }
#else
      if (tile == first_tile) {
        all_${i} = here;
      } else {
        all_${i} = joined(all_${i}, here);
      }
#endif
    }
#endfor
    // The next tile overwrites what this one read.
    workgroupBarrier();
  }
#if !SPLIT
#for i in 0..(GROUP * PAIRS + LANES - 1) / LANES
  if (lane + ${i} * LANES < GROUP * PAIRS) {
    out[(group.y * HEADS + first_head + head_${i}) * PAIRS + pair_${i}] = all_${i}.sum / all_${i}.weights;
  }
#endfor
#endif
}
