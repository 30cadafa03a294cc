// Paged causal attention of rows in blocks, GPUs: the same function, layouts and bindings as attention_wide.wgsl, and the same order of
// sums, so the same bits. Rows that are in no block (lib/row_block.wgsl) are left to it.
// One workgroup a block and KV head: the block's rows times their GROUP query heads are its queries (number = row in block * GROUP +
// head), at most TY * HELD. All meet a tile of 64 positions at once, in two products staged in workgroup memory: scores = queries . keys,
// DEPTH dimensions at a time, and sums = weights . values, V_KEYS positions at a time. Thread (tx, ty) of TX x TY holds the queries
// ty + i TY, of the scores the four positions from 4 (tx + j TX) on, of the sums the four dimensions from 4 (tx + h TX) on.
// Sums:      f32, as in attention_wide.wgsl. A position that a row does not see has weight 0, which leaves its sums as they were.
// Constants: as in attention_wide.wgsl but PAIRS, LANES, SPLIT and MAX_TILES, and BLOCK_ROWS, TX (divides 16), TY, THREADS (= TX TY), HELD (a multiple
//            of 4, at most TX), DEPTH (8 or a multiple of 16; divides HEAD_DIM), V_KEYS (a multiple of 4), SHARES (parts in which a tile's
//            weights are staged; V_KEYS divides 64 / SHARES). Workgroup memory: workgroupBytes of attention-block.ts. Features: none.
// Bindings:  as in attention_wide.wgsl.
#include "lib/kv_read.wgsl"
#include "lib/softcap.wgsl"
#include "lib/attention_merge.wgsl"
#include "lib/window.wgsl"
#include "lib/row_block.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

const QUADS = HEAD_DIM / 4;
const QUERIES = TY * HELD;
/// Quads from one line of a staged product to the next: odd, so that neighbours lie in different banks.
const STRIDE = DEPTH / 4 + 1;
const KEYS_AT = QUERIES * STRIDE;
const SHARE = 64 / SHARES;
const WEIGHT_STRIDE = SHARE / 4 + 1;
const VALUES_AT = QUERIES * WEIGHT_STRIDE;

/// In turn: [query][dimension] and [key][dimension]; largest scores at VALUES_AT; [query][position] weights and [position][dimension] values.
var<workgroup> staged: array<vec4<f32>, max(KEYS_AT + 64 * STRIDE, VALUES_AT + max(V_KEYS * QUADS, THREADS * HELD / 4))>;
/// The KV head at each position of the tile; positions that no row of the block sees stand in by its first row's.
var<workgroup> kv_heads: array<KvHead, 64>;
/// Of each query: the tile's largest score, and what the sums before the tile and those of the tile are multiplied by.
var<workgroup> tops: array<f32, QUERIES>;
var<workgroup> joins: array<vec2<f32>, QUERIES>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let count = groups.y;
  // Late rows see most: begun first, none of them is left to the end alone.
  let row = count - 1 - group.y;
  if (!leads(row, count)) {
    return;
  }
  let place = rows[row];
  let first = first_seen(place.y);
  // A block lies within a tile, so that its rows end with the same one.
  let last_tile = place.y / TILE;
  let tx = thread % TX;
  let ty = thread / TX;
  // The query whose largest score and sum of weights this thread keeps, where there is one.
  let own_first_tile = first_seen(place.y + thread / GROUP) / TILE;
  var own_top = 0.0;
  var own_weights = 0.0;
#for i in 0..HELD
  let query_${i} = ty + ${i} * TY;
  let position_${i} = place.y + query_${i} / GROUP;
  let first_${i} = first_seen(position_${i});
#for h in 0..(HEAD_DIM / 4 + TX - 1) / TX
  var all_${i}_${h} = vec4<f32>();
#endfor
#endfor
#for h in 0..(HEAD_DIM / 4 + TX - 1) / TX
  // Past the last quad the last one is summed again, for nothing.
  let sum_quad_${h} = min(tx + ${h} * TX, QUADS - 1);
#endfor
  // Which quads and eights this thread stages.
#for l in 0..(TY * HELD * (DEPTH / 4) + THREADS - 1) / THREADS
  let q_slot_${l} = min((thread + ${l} * THREADS) / (DEPTH / 4), QUERIES - 1);
  let q_quad_${l} = (thread + ${l} * THREADS) % (DEPTH / 4);
  let q_at_${l} = ((min(row + q_slot_${l} / GROUP, count - 1) * KV_HEADS + group.x) * GROUP + q_slot_${l} % GROUP) * QUADS + q_quad_${l};
#endfor
#for l in 0..(8 * DEPTH + THREADS - 1) / THREADS
  let k_slot_${l} = min((thread + ${l} * THREADS) / (DEPTH / 8), 63u);
  let k_eight_${l} = (thread + ${l} * THREADS) % (DEPTH / 8);
#endfor
#for l in 0..(V_KEYS * (HEAD_DIM / 8) + THREADS - 1) / THREADS
  let v_key_${l} = min((thread + ${l} * THREADS) / (HEAD_DIM / 8), V_KEYS - 1);
  let v_eight_${l} = (thread + ${l} * THREADS) % (HEAD_DIM / 8);
#endfor
  for (var tile = first / TILE; tile <= last_tile; tile++) {
    for (var i = thread; i < TILE; i += THREADS) {
      let position = tile * TILE + i;
      let seen = position >= first && (position <= place.y || in_block(row, position - place.y, count));
      kv_heads[i] = kv_head(place.x, select(place.y, position, seen), group.x);
    }
    workgroupBarrier();
    // Staged keys are in the order in which threads side by side read them: slot 16 c + n holds key 4 n + c.
#for l in 0..(8 * DEPTH + THREADS - 1) / THREADS
    let k_head_${l} = kv_heads[k_slot_${l} % 16 * 4 + k_slot_${l} / 16];
    var next_k_${l} = key_eight(k_head_${l}, k_eight_${l});
#endfor
#for l in 0..(TY * HELD * (DEPTH / 4) + THREADS - 1) / THREADS
    var next_q_${l} = q[q_at_${l}];
#endfor
#for i in 0..HELD
#for j in 0..16 / TX
    var score_${i}_${j} = vec4<f32>();
#endfor
#endfor
    for (var chunk = 0u; chunk < HEAD_DIM / DEPTH; chunk++) {
#for l in 0..(TY * HELD * (DEPTH / 4) + THREADS - 1) / THREADS
      if (thread + ${l} * THREADS < QUERIES * (DEPTH / 4)) {
        staged[q_slot_${l} * STRIDE + q_quad_${l}] = next_q_${l} * f32(SCALE);
      }
#endfor
#for l in 0..(8 * DEPTH + THREADS - 1) / THREADS
      if (thread + ${l} * THREADS < 8 * DEPTH) {
        staged[KEYS_AT + k_slot_${l} * STRIDE + 2 * k_eight_${l}] = next_k_${l}.low;
        staged[KEYS_AT + k_slot_${l} * STRIDE + 2 * k_eight_${l} + 1] = next_k_${l}.high;
      }
#endfor
      workgroupBarrier();
      // Under way while this chunk is summed; the last one is read again, for nothing.
      let next = min(chunk + 1, HEAD_DIM / DEPTH - 1u);
#for l in 0..(TY * HELD * (DEPTH / 4) + THREADS - 1) / THREADS
      next_q_${l} = q[q_at_${l} + next * (DEPTH / 4)];
#endfor
#for l in 0..(8 * DEPTH + THREADS - 1) / THREADS
      next_k_${l} = key_eight(k_head_${l}, next * (DEPTH / 8) + k_eight_${l});
#endfor
      for (var quad = 0u; quad < DEPTH / 4; quad++) {
#for i in 0..HELD
        let q_${i} = staged[query_${i} * STRIDE + quad];
#endfor
#for j in 0..16 / TX
        {
#for c in 0..4
          let k_${c} = staged[KEYS_AT + (${c} * 16 + tx + ${j} * TX) * STRIDE + quad];
#endfor
#for d in 0..4
          let k_at_${d} = vec4(k_0[${d}], k_1[${d}], k_2[${d}], k_3[${d}]);
#for i in 0..HELD
          score_${i}_${j} = fma(vec4(q_${i}[${d}]), k_at_${d}, score_${i}_${j});
#endfor
#endfor
        }
#endfor
      }
      workgroupBarrier();
    }
#for l in 0..(V_KEYS * (HEAD_DIM / 8) + THREADS - 1) / THREADS
    var next_v_${l} = value_eight(kv_heads[v_key_${l}], v_eight_${l});
#endfor
#for i in 0..HELD
    var top_${i} = -1.0e30;
#for j in 0..16 / TX
    {
      let position = tile * TILE + 4 * (tx + ${j} * TX) + vec4(0u, 1u, 2u, 3u);
      let seen_${i}_${j} = (position >= vec4(first_${i})) & (position <= vec4(position_${i}));
#for c in 0..4
      score_${i}_${j}[${c}] = select(-1.0e30, softcap(score_${i}_${j}[${c}]), seen_${i}_${j}[${c}]);
      top_${i} = max(top_${i}, score_${i}_${j}[${c}]);
#endfor
    }
#endfor
#endfor
#for g in 0..HELD / 4
    staged[VALUES_AT + (${g} * TY + ty) * TX + tx] = vec4(top_${4 * g}, top_${4 * g + 1}, top_${4 * g + 2}, top_${4 * g + 3});
#endfor
    workgroupBarrier();
#for g in 0..HELD / 4
    {
      var top = staged[VALUES_AT + (${g} * TY + ty) * TX];
      for (var x = 1u; x < TX; x++) {
        top = max(top, staged[VALUES_AT + (${g} * TY + ty) * TX + x]);
      }
#for c in 0..4
      top_${4 * g + c} = top[${c}];
#endfor
    }
#endfor
#for i in 0..HELD
    if (tx == 0) {
      tops[query_${i}] = top_${i};
    }
#for j in 0..16 / TX
    {
      let position = tile * TILE + 4 * (tx + ${j} * TX) + vec4(0u, 1u, 2u, 3u);
      let seen = (position >= vec4(first_${i})) & (position <= vec4(position_${i}));
      score_${i}_${j} = select(vec4<f32>(), exp(score_${i}_${j} - top_${i}), seen);
    }
#endfor
#endfor
    // Values are staged where the largest scores were.
    workgroupBarrier();
    var own_here = 0.0;
#for i in 0..HELD
#for h in 0..(HEAD_DIM / 4 + TX - 1) / TX
    var here_${i}_${h} = vec4<f32>();
#endfor
#endfor
    for (var chunk = 0u; chunk < TILE / V_KEYS; chunk++) {
      let in_share = chunk % (SHARE / V_KEYS);
      if (in_share == 0) {
        let share = chunk / (SHARE / V_KEYS);
#for j in 0..16 / TX
        if ((tx + ${j} * TX) / (SHARE / 4) == share) {
#for i in 0..HELD
          staged[query_${i} * WEIGHT_STRIDE + (tx + ${j} * TX) % (SHARE / 4)] = score_${i}_${j};
#endfor
        }
#endfor
      }
#for l in 0..(V_KEYS * (HEAD_DIM / 8) + THREADS - 1) / THREADS
      if (thread + ${l} * THREADS < V_KEYS * (HEAD_DIM / 8)) {
        staged[VALUES_AT + v_key_${l} * QUADS + 2 * v_eight_${l}] = next_v_${l}.low;
        staged[VALUES_AT + v_key_${l} * QUADS + 2 * v_eight_${l} + 1] = next_v_${l}.high;
      }
#endfor
      workgroupBarrier();
      let next = min(chunk + 1, TILE / V_KEYS - 1);
#for l in 0..(V_KEYS * (HEAD_DIM / 8) + THREADS - 1) / THREADS
      next_v_${l} = value_eight(kv_heads[next * V_KEYS + v_key_${l}], v_eight_${l});
#endfor
      for (var quad = 0u; quad < V_KEYS / 4; quad++) {
#for i in 0..HELD
        let weight_${i} = staged[query_${i} * WEIGHT_STRIDE + in_share * (V_KEYS / 4) + quad];
#endfor
#for c in 0..4
        {
#for h in 0..(HEAD_DIM / 4 + TX - 1) / TX
          let value_${h} = staged[VALUES_AT + (quad * 4 + ${c}) * QUADS + sum_quad_${h}];
#for i in 0..HELD
          here_${i}_${h} = fma(vec4(weight_${i}[${c}]), value_${h}, here_${i}_${h});
#endfor
#endfor
        }
#endfor
      }
      if (in_share == SHARE / V_KEYS - 1 && thread < QUERIES) {
        for (var quad = 0u; quad < SHARE / 4; quad++) {
          let weights = staged[thread * WEIGHT_STRIDE + quad];
#for c in 0..4
          own_here += weights[${c}];
#endfor
        }
      }
      workgroupBarrier();
    }
    // A row's tiles may begin later than its block's.
    if (thread < QUERIES) {
      let top = tops[thread];
      if (tile == own_first_tile) {
        own_top = top;
        own_weights = own_here;
      } else if (tile > own_first_tile) {
        let join = join_of(own_top, top);
        own_top = join.top;
        own_weights = fma(own_here, join.grow, own_weights * join.shrink);
        joins[thread] = vec2(join.shrink, join.grow);
      }
    }
    workgroupBarrier();
#for i in 0..HELD
    if (tile == first_${i} / TILE) {
#for h in 0..(HEAD_DIM / 4 + TX - 1) / TX
      all_${i}_${h} = here_${i}_${h};
#endfor
    } else if (tile > first_${i} / TILE) {
      let join = joins[query_${i}];
#for h in 0..(HEAD_DIM / 4 + TX - 1) / TX
      all_${i}_${h} = fma(here_${i}_${h}, vec4(join.y), all_${i}_${h} * join.x);
#endfor
    }
#endfor
  }
  if (thread < QUERIES) {
    tops[thread] = own_weights;
  }
  workgroupBarrier();
#for i in 0..HELD
  if (in_block(row, query_${i} / GROUP, count)) {
    let at = (((row + query_${i} / GROUP) * KV_HEADS + group.x) * GROUP + query_${i} % GROUP) * QUADS;
#for h in 0..(HEAD_DIM / 4 + TX - 1) / TX
    if (tx + ${h} * TX < QUADS) {
      out[at + tx + ${h} * TX] = all_${i}_${h} / tops[query_${i}];
    }
#endfor
  }
#endfor
}
