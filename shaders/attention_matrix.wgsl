// Paged causal attention of rows in blocks by matrix instructions: the same function, layouts and bindings as attention_wide.wgsl. Rows that
// are in no block (lib/row_block.wgsl) are left to it.
// One workgroup a block and KV head: the block's rows times their GROUP query heads are its queries (number = row in block * GROUP + head),
// 16 a subgroup. All meet a tile of 64 positions at once: scores = queries . keys, sums += weights . values. Of a query's scores, two lanes
// hold half each: quads 2 j + half.
// Numbers:   queries, keys, weights and values are rounded to f16 (and clamped to its range), scores and sums are f32.
// Sums:      weights are exp(score - reference) with one reference a query: its largest score when it last was exceeded by more than
//            SLACK, at which the sums so far are multiplied anew (so that weights stay below exp(SLACK), which f16 holds). The hardware's
//            order within 16 positions, then ascending. Only where the order of sums may depend on the batch.
// Constants: as in attention_block.wgsl: BLOCK_ROWS, GROUP and those of the pool; SUBGROUPS, THREADS (= 32 SUBGROUPS). HEAD_DIM a multiple of 16.
//            Workgroup memory: 16 (64 (HEAD_DIM / 8 + 1) + 16 SUBGROUPS * 18) + 516 bytes.
// Features:  shader-f16, subgroups (of 32), chromium-experimental-subgroup-matrix (16 x 16 x 16, f16 to f32).
// Bindings:  as in attention_wide.wgsl.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
#include "lib/kv_read.wgsl"
#include "lib/softcap.wgsl"
#include "lib/attention_merge.wgsl"
#include "lib/window.wgsl"
#include "lib/row_block.wgsl"
#include "lib/matrix.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

const QUERIES = SUBGROUPS * MATRIX;
const EIGHTS = HEAD_DIM / 8;
/// Words of four from one line to the next: so that neighbours lie in different banks.
const STRIDE = EIGHTS + 1;
const SCORE_STRIDE = 18;
const SLACK = 8.0;
const UNSEEN = -1.0e30;

/// In turn: [query][dimension], [key][dimension], [position][dimension] of values; f16.
var<workgroup> staged: array<vec4<u32>, 64 * STRIDE>;
/// In turn: [query][position] scores in f32, [query][position] weights in f16; [query][16 dimensions] sums in f32.
var<workgroup> scores: array<vec4<u32>, QUERIES * SCORE_STRIDE>;
/// Where the KV head lies at each position of a tile, for this tile and the next; positions that no row of the block sees stand in by its
/// first row's.
var<workgroup> kv_heads: array<KvHead, 2 * TILE>;
var<workgroup> exceeded: atomic<u32>;

fn key_halves(head: KvHead, eight: u32) -> vec4<u32> {
#if DTYPE == 2
  return key_words(head, eight);
#else
  return halves(key_eight(head, eight));
#endif
}

fn value_halves(head: KvHead, eight: u32) -> vec4<u32> {
#if DTYPE == 2
  return value_words(head, eight);
#else
  return halves(value_eight(head, eight));
#endif
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let count = groups.y;
  // Late rows see most: begun first, none of them is left to the end alone.
  let row = count - 1 - group.y;
  if (!leads(row, count)) {
    return;
  }
  let place = rows[row];
  let first = first_seen(place.y);
  let first_tile = first / TILE;
  // A block lies within a tile, so that its rows end with the same one.
  let last_tile = place.y / TILE;
  let query = subgroup * MATRIX + lane / 2;
  let half = lane % 2;
  let position = place.y + query / GROUP;
  let own_first = first_seen(position);
  let own_scores = subgroup * MATRIX * SCORE_STRIDE;
  let own_row = query * SCORE_STRIDE;
  var reference = UNSEEN;
  var weights = 0.0;
  for (var i = thread; i < QUERIES * EIGHTS; i += THREADS) {
    let slot = i / EIGHTS;
    let at = (((min(row + slot / GROUP, count - 1) * KV_HEADS + group.x) * GROUP + slot % GROUP) * EIGHTS + i % EIGHTS) * 2;
    staged[slot * STRIDE + i % EIGHTS] = halves(Eight(q[at] * f32(SCALE), q[at + 1] * f32(SCALE)));
  }
  for (var i = thread; i < TILE; i += THREADS) {
    kv_heads[first_tile % 2 * TILE + i] = head_at(place, first_tile * TILE + i, first, row, count, group.x);
  }
  workgroupBarrier();
#for d in 0..HEAD_DIM / 16
  let query_${d} = subgroupMatrixLoad<Left, row_major>(&staged, subgroup * MATRIX * STRIDE + ${2 * d}, STRIDE);
  var sum_${d} = Sum();
#endfor
  // What this thread stages next: keys and values in turn.
#for l in 0..64 * HEAD_DIM / 8 / THREADS
  let slot_${l} = (thread + ${l} * THREADS) / EIGHTS;
  let eight_${l} = (thread + ${l} * THREADS) % EIGHTS;
  var next_${l} = key_halves(kv_heads[first_tile % 2 * TILE + slot_${l}], eight_${l});
#endfor
  workgroupBarrier();
  for (var tile = first_tile; tile <= last_tile; tile++) {
    let here = tile % 2 * TILE;
#for l in 0..64 * HEAD_DIM / 8 / THREADS
    staged[slot_${l} * STRIDE + eight_${l}] = next_${l};
#endfor
    if (thread == 0) {
      atomicStore(&exceeded, 0u);
    }
    for (var i = thread; i < TILE; i += THREADS) {
      kv_heads[TILE - here + i] = head_at(place, (tile + 1) * TILE + i, first, row, count, group.x);
    }
    workgroupBarrier();
#for l in 0..64 * HEAD_DIM / 8 / THREADS
    next_${l} = value_halves(kv_heads[here + slot_${l}], eight_${l});
#endfor
#for c in 0..4
    {
      var score = Sum();
#for d in 0..HEAD_DIM / 16
      score = subgroupMatrixMultiplyAccumulate(
        query_${d}, subgroupMatrixLoad<Right, col_major>(&staged, ${c} * MATRIX * STRIDE + ${2 * d}, STRIDE), score);
#endfor
      subgroupMatrixStore<row_major>(&scores, own_scores + ${4 * c}, score, SCORE_STRIDE);
    }
#endfor
    workgroupBarrier();
#for l in 0..64 * HEAD_DIM / 8 / THREADS
    staged[slot_${l} * STRIDE + eight_${l}] = next_${l};
#endfor
    var top = UNSEEN;
#for j in 0..8
    var score_${j} = softcapped(bitcast<vec4<f32>>(scores[own_row + ${2 * j} + half]));
    {
      let at = tile * TILE + 4 * (${2 * j} + half) + vec4(0u, 1u, 2u, 3u);
      score_${j} = select(vec4(UNSEEN), score_${j}, (at >= vec4(own_first)) & (at <= vec4(position)));
      top = max(top, max(max(score_${j}.x, score_${j}.y), max(score_${j}.z, score_${j}.w)));
    }
#endfor
    top = max(top, subgroupShuffleXor(top, 1u));
    if (top > reference + SLACK) {
      atomicStore(&exceeded, 1u);
    }
    if (workgroupUniformLoad(&exceeded) != 0u) {
      let shrink = exp(reference - max(reference, top));
      reference = max(reference, top);
      weights *= shrink;
#for d in 0..HEAD_DIM / 16
      subgroupMatrixStore<row_major>(&scores, own_scores, sum_${d}, SCORE_STRIDE);
      workgroupBarrier();
#for i in 0..2
      scores[own_row + 2 * half + ${i}] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[own_row + 2 * half + ${i}]) * shrink);
#endfor
      workgroupBarrier();
      sum_${d} = subgroupMatrixLoad<Sum, row_major>(&scores, own_scores, SCORE_STRIDE);
      workgroupBarrier();
#endfor
    }
#for j in 0..8
    {
      let weight = select(exp(score_${j} - reference), vec4<f32>(), score_${j} <= vec4(UNSEEN));
      weights += weight.x + weight.y + weight.z + weight.w;
      let pairs = vec2(pack2x16float(weight.xy), pack2x16float(weight.zw));
      if (half == 0) {
        scores[own_row + ${j}].x = pairs.x;
        scores[own_row + ${j}].y = pairs.y;
      } else {
        scores[own_row + ${j}].z = pairs.x;
        scores[own_row + ${j}].w = pairs.y;
      }
    }
#endfor
    workgroupBarrier();
    // The last tile reads past the block, at places that are there.
#for l in 0..64 * HEAD_DIM / 8 / THREADS
    next_${l} = key_halves(kv_heads[TILE - here + slot_${l}], eight_${l});
#endfor
#for c in 0..4
    {
      let left = subgroupMatrixLoad<Left, row_major>(&scores, own_scores + ${2 * c}, SCORE_STRIDE);
#for d in 0..HEAD_DIM / 16
      sum_${d} = subgroupMatrixMultiplyAccumulate(
        left, subgroupMatrixLoad<Right, row_major>(&staged, ${c} * MATRIX * STRIDE + ${2 * d}, STRIDE), sum_${d});
#endfor
    }
#endfor
    workgroupBarrier();
  }
  weights += subgroupShuffleXor(weights, 1u);
  let mine = in_block(row, query / GROUP, count);
  let at = (((row + query / GROUP) * KV_HEADS + group.x) * GROUP + query % GROUP) * (HEAD_DIM / 4);
#for d in 0..HEAD_DIM / 16
  subgroupMatrixStore<row_major>(&scores, own_scores, sum_${d}, SCORE_STRIDE);
  workgroupBarrier();
  if (mine) {
#for i in 0..2
    out[at + ${4 * d + i} + 2 * half] = bitcast<vec4<f32>>(scores[own_row + 2 * half + ${i}]) / weights;
#endfor
  }
  workgroupBarrier();
#endfor
}

fn softcapped(score: vec4<f32>) -> vec4<f32> {
  return vec4(softcap(score.x), softcap(score.y), softcap(score.z), softcap(score.w));
}

fn head_at(place: vec4<u32>, position: u32, first: u32, row: u32, count: u32, head: u32) -> KvHead {
  let seen = position >= first && (position <= place.y || in_block(row, position - place.y, count));
  return kv_head(place.x, select(place.y, position, seen), head);
}
