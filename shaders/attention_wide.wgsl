// Paged causal attention, GPUs: the same function, layouts and bindings as attention_scalar.wgsl.
// One workgroup a row and KV head, for all its GROUP query heads. Positions are cut into tiles of 64 at absolute multiples of 64.
// A tile:    its K and V are all under way, in registers, before the first is used; they go through workgroup memory KEY_EIGHTS eights
//            of dimensions of all keys, then VALUE_KEYS values at a time. A thread has one key and the heads `lane / 64` and every
//            LANES / 64 further, then one pair of dimensions and the heads `lane / PAIRS` and every VALUE_SHARES further.
// Sums:      f32. A score: dimensions ascending by fma. A tile: weights exp(score - the tile's largest), added ascending, and weighted
//            values by fma, ascending. Tiles ascending (lib/attention_merge.wgsl). The order depends on the row's position and
//            window alone, and is the same where SPLIT.
// Variants:  SPLIT 0: a workgroup takes all tiles of its row. 1: of Z workgroups (z) each takes every Zth tile, whose sums go to `partials`,
//            for attention_merge.wgsl: where few rows leave a GPU idle. BLOCK_ROWS > 0: rows of blocks are left to attention_block.wgsl.
// Constants: as in attention_scalar.wgsl but WORKGROUP, and GROUP (= HEADS / KV_HEADS), PAIRS (= HEAD_DIM / 2), SPLIT, MAX_TILES, BLOCK_ROWS,
//            and those of attention-wide.ts, which says how much workgroup memory they take. LANES >= PAIRS. Features: none.
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
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec2<f32>>;

const EIGHTS = HEAD_DIM / 8;
const QUADS = HEAD_DIM / 4;
/// Odd, so that neighbouring keys lie in different banks.
const KEY_STRIDE = KEY_EIGHTS + 1 - KEY_EIGHTS % 2;
const UNSEEN = -1.0e30f;

var<workgroup> query: array<vec4<f32>, GROUP * QUADS>;
/// The KV head at each position of the tile; positions that the row does not see stand in by one that it does.
var<workgroup> kv_heads: array<KvHead, 64>;
/// [key][KEY_STRIDE], then [value][EIGHTS]
var<workgroup> staged: array<Words, max(64 * KEY_STRIDE, VALUE_KEYS * EIGHTS)>;
/// [head][four positions]
var<workgroup> tile_weights: array<vec4<f32>, GROUP * 16>;
/// Each head's largest score of the tile, as integers in the same order.
var<workgroup> tops: array<atomic<i32>, GROUP>;
#if !SPLIT
var<workgroup> all_weights: array<f32, GROUP>;
#endif

/// Its own inverse, on bits.
fn ordered(bits: i32) -> i32 {
  return bits ^ ((bits >> 31u) & 0x7fffffff);
}

fn top_of(head: u32) -> f32 {
  return bitcast<f32>(ordered(atomicLoad(&tops[head])));
}

/// A pair of dimensions of the value staged from `base` on.
fn staged_pair(base: u32, pair: u32, scale: f32) -> vec2<f32> {
  let at = base + pair / 4;
#if DTYPE == 0
  let quad = select(staged[at].low, staged[at].high, pair / 2 % 2 == 1);
  return bitcast<vec2<f32>>(select(quad.xy, quad.zw, pair % 2 == 1));
#endif
#if DTYPE == 1 || DTYPE == 2
  return unpack_pair(staged[at][pair % 4]);
#endif
#if DTYPE == 3
  return signed_bytes(staged[at][pair / 2 % 2] >> (pair % 2 * 16)).xy * scale;
#endif
}

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
  let last_tile = place.y / TILE;
#if SPLIT
  let first_tile = first / TILE + group.z;
  if (first_tile > last_tile) {
    return;
  }
#else
  let first_tile = first / TILE;
#endif
  let first_head = group.x * GROUP;
  for (var i = lane; i < GROUP * QUADS; i += LANES) {
    query[i] = q[(group.y * HEADS + first_head) * QUADS + i] * f32(SCALE);
  }
  let key = lane % TILE;
#for h in 0..(GROUP * 64 + LANES - 1) / LANES
  let score_head_${h} = min(lane / TILE + ${h} * (LANES / TILE), GROUP - 1);
#endfor
  let pair = lane % PAIRS;
#for h in 0..(GROUP + VALUE_SHARES - 1) / VALUE_SHARES
  let sum_head_${h} = min(lane / PAIRS + ${h} * VALUE_SHARES, GROUP - 1);
  let sums_${h} = lane / PAIRS < VALUE_SHARES && lane / PAIRS + ${h} * VALUE_SHARES < GROUP;
#if !SPLIT
  var all_${h} = Attended();
#endif
#endfor
#if !SPLIT
  var all_head = Attended();
#endif
  for (var tile = first_tile; tile <= last_tile; tile += groups.z) {
    if (lane < TILE) {
      let position = clamp(tile * TILE + lane, first, place.y);
      kv_heads[lane] = kv_head(place.x, position, group.x);
    }
    if (lane < GROUP) {
      atomicStore(&tops[lane], ordered(bitcast<i32>(UNSEEN)));
    }
    workgroupBarrier();
#for c in 0..HEAD_DIM / 8 / KEY_EIGHTS
#for l in 0..(64 * KEY_EIGHTS + LANES - 1) / LANES
    let k_${c}_${l} = key_words(kv_heads[min((lane + ${l} * LANES) / KEY_EIGHTS, TILE - 1)], ${c} * KEY_EIGHTS + (lane + ${l} * LANES) % KEY_EIGHTS);
#endfor
#endfor
#for c in 0..64 / VALUE_KEYS
#for l in 0..(VALUE_KEYS * HEAD_DIM / 8 + LANES - 1) / LANES
    let v_${c}_${l} = value_words(kv_heads[${c} * VALUE_KEYS + min((lane + ${l} * LANES) / EIGHTS, VALUE_KEYS - 1)], (lane + ${l} * LANES) % EIGHTS);
#endfor
#endfor
    let scale = key_scale(kv_heads[key]);
#for h in 0..(GROUP * 64 + LANES - 1) / LANES
    var score_${h} = 0.0;
#endfor
#for c in 0..HEAD_DIM / 8 / KEY_EIGHTS
#if c > 0
    workgroupBarrier();
#endif
#for l in 0..(64 * KEY_EIGHTS + LANES - 1) / LANES
    if (lane + ${l} * LANES < TILE * KEY_EIGHTS) {
      staged[(lane + ${l} * LANES) / KEY_EIGHTS * KEY_STRIDE + (lane + ${l} * LANES) % KEY_EIGHTS] = k_${c}_${l};
    }
#endfor
    workgroupBarrier();
    for (var i = 0u; i < KEY_EIGHTS; i++) {
      let k = scaled(stored(staged[key * KEY_STRIDE + i]), scale);
#for h in 0..(GROUP * 64 + LANES - 1) / LANES
      let low_${h} = query[score_head_${h} * QUADS + 2 * (${c} * KEY_EIGHTS + i)];
      let high_${h} = query[score_head_${h} * QUADS + 2 * (${c} * KEY_EIGHTS + i) + 1];
#for d in 0..4
      score_${h} = fma(low_${h}[${d}], k.low[${d}], score_${h});
#endfor
#for d in 0..4
      score_${h} = fma(high_${h}[${d}], k.high[${d}], score_${h});
#endfor
#endfor
    }
#endfor
    let position = tile * TILE + key;
    let seen = position >= first && position <= place.y;
#for h in 0..(GROUP * 64 + LANES - 1) / LANES
    score_${h} = select(UNSEEN, softcap(score_${h}), seen);
    atomicMax(&tops[score_head_${h}], ordered(bitcast<i32>(score_${h})));
#endfor
    workgroupBarrier();
#for h in 0..(GROUP * 64 + LANES - 1) / LANES
    tile_weights[score_head_${h} * 16 + key / 4][key % 4] = select(0.0, exp(score_${h} - top_of(score_head_${h})), seen);
#endfor
#for h in 0..(GROUP + VALUE_SHARES - 1) / VALUE_SHARES
    var sum_${h} = vec2<f32>();
#endfor
#for c in 0..64 / VALUE_KEYS
#if c > 0
    workgroupBarrier();
#endif
#for l in 0..(VALUE_KEYS * HEAD_DIM / 8 + LANES - 1) / LANES
    if (lane + ${l} * LANES < VALUE_KEYS * EIGHTS) {
      staged[lane + ${l} * LANES] = v_${c}_${l};
    }
#endfor
    workgroupBarrier();
    for (var quad = 0u; quad < VALUE_KEYS / 4; quad++) {
#for h in 0..(GROUP + VALUE_SHARES - 1) / VALUE_SHARES
      let weight_${h} = tile_weights[sum_head_${h} * 16 + ${c} * (VALUE_KEYS / 4) + quad];
#endfor
#for j in 0..4
      let v_${j} = staged_pair((4 * quad + ${j}) * EIGHTS, pair, value_scale(kv_heads[${c} * VALUE_KEYS + 4 * quad + ${j}]));
#for h in 0..(GROUP + VALUE_SHARES - 1) / VALUE_SHARES
      sum_${h} = fma(vec2(weight_${h}[${j}]), v_${j}, sum_${h});
#endfor
#endfor
    }
#endfor
    if (lane < GROUP) {
      var here = Attended(top_of(lane), 0.0, vec2<f32>());
      for (var quad = 0u; quad < 16; quad++) {
#for d in 0..4
        here.weights += tile_weights[lane * 16 + quad][${d}];
#endfor
      }
#if SPLIT
      out[((group.y * HEADS + first_head + lane) * MAX_TILES + tile) * (PAIRS + 1)] = vec2(here.top, here.weights);
#else
      if (tile == first_tile) {
        all_head = here;
      } else {
        all_head = joined(all_head, here);
      }
#endif
    }
#for h in 0..(GROUP + VALUE_SHARES - 1) / VALUE_SHARES
    if (sums_${h}) {
#if SPLIT
      out[((group.y * HEADS + first_head + sum_head_${h}) * MAX_TILES + tile) * (PAIRS + 1) + 1 + pair] = sum_${h};
#else
      let here = Attended(top_of(sum_head_${h}), 0.0, sum_${h});
      if (tile == first_tile) {
        all_${h} = here;
      } else {
        all_${h} = joined(all_${h}, here);
      }
#endif
    }
#endfor
    // The next tile overwrites what this one read.
    workgroupBarrier();
  }
#if !SPLIT
  if (lane < GROUP) {
    all_weights[lane] = all_head.weights;
  }
  workgroupBarrier();
#for h in 0..(GROUP + VALUE_SHARES - 1) / VALUE_SHARES
  if (sums_${h}) {
    out[(group.y * HEADS + first_head + sum_head_${h}) * PAIRS + pair] = all_${h}.sum / all_weights[sum_head_${h}];
  }
#endfor
#endif
}
