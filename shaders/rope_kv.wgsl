// Rotary embedding of q and k, with an RMS norm of each head before it where QK_NORM, and K and V into their pages:
//   x' = x * inverseSqrt(mean(x^2) + EPS) * (norm + OFFSET)                                    (QK_NORM; q and k only)
//   y[i] = f (x'[i] cos a_i - x'[i + h] sin a_i),  y[i + h] = f (x'[i + h] cos a_i + x'[i] sin a_i)    (i < h = ROTARY_DIM / 2)
//   with a_i = position * frequency[i], f = ATTENTION_FACTOR; dimensions from ROTARY_DIM on pass through. The "rotate half" layout of HF
//   transformers; Su et al. 2021, https://arxiv.org/abs/2104.09864. Angles: lib/angle.wgsl.
// Layout:    qkv [rows][HEADS q | KV_HEADS k | KV_HEADS v][HEAD_DIM] f32; norms [q | k][HEAD_DIM] f32; frequency [h] f32;
//            q [rows][HEADS][HEAD_DIM] f32; pools and DTYPE as in lib/kv.wgsl, int8 as in lib/kv_int8.wgsl.
// Sums:      the norm's: scalar: quads of the head, each component apart by fma, quads ascending, then x + y + z + w.
//            WIDE: lane l takes quads l, l + LANES, ..., then a tree of lanes. Independent of the batch.
// Variants:  scalar: LANES threads a head, each sums the whole head (in lockstep, so for the price of one) and turns its
//            part; no barriers. WIDE: a workgroup a head. int8: what is written is turned twice, first for its largest magnitude.
// Constants: HEADS, KV_HEADS, HEAD_DIM (multiple of 8), ROTARY_DIM (even), ATTENTION_FACTOR, QK_NORM, EPS, OFFSET, DTYPE, BLOCK_SIZE,
//            MAX_BLOCKS_PER_SEQ, LANES, WORKGROUP, WIDE.
// Bindings:  0 rows (slot, position, token, active); 1 blockTable; 2 qkv; 3 norms; 4 frequency; 5 q; 6 kPool; 7 vPool.
// Features:  none.
#include "lib/dtype.wgsl"
#include "lib/angle.wgsl"
#include "lib/kv.wgsl"
#if QK_NORM && WIDE
#include "lib/lane_sum.wgsl"
#endif
#if DTYPE == 3
#include "lib/kv_int8.wgsl"
#if WIDE
#include "lib/lane_max.wgsl"
#endif
#endif

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read> frequency: array<f32>;
@group(0) @binding(5) var<storage, read_write> q: array<vec2<f32>>;
#if DTYPE == 3
// Atomic, since the scales of two heads, or two tokens, share a word, and other workgroups may write the other one now.
@group(0) @binding(6) var<storage, read_write> k_pool: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read_write> v_pool: array<atomic<u32>>;
#else
@group(0) @binding(6) var<storage, read_write> k_pool: array<u32>;
@group(0) @binding(7) var<storage, read_write> v_pool: array<u32>;
#endif

const ALL_HEADS = HEADS + 2 * KV_HEADS;
const QUADS = HEAD_DIM / 4;
const HALF = ROTARY_DIM / 2;

/// inverseSqrt(mean(x^2) + EPS) of the head whose first quad is `base`.
fn head_scale(base: u32, lane: u32) -> f32 {
#if QK_NORM
  var squares = vec4<f32>();
#if WIDE
  for (var i = lane; i < QUADS; i += LANES) {
#else
  for (var i = 0u; i < QUADS; i++) {
#endif
    let x = qkv[base + i];
    squares = fma(x, x, squares);
  }
  var sum = squares.x + squares.y + squares.z + squares.w;
#if WIDE
  sum = lane_sum(lane, sum);
#endif
  return inverseSqrt(sum / HEAD_DIM + EPS);
#else
  return 1.0;
#endif
}

/// Dimension `dim` of a head after the norm; `norm_base` is 0 for q, HEAD_DIM for k.
fn normed(base: u32, dim: u32, scale: f32, norm_base: u32) -> f32 {
  let x = qkv[base + dim / 4][dim % 4];
#if QK_NORM
  return x * scale * (norms[norm_base + dim] + f32(OFFSET));
#else
  return x;
#endif
}

fn turned(base: u32, dim: u32, scale: f32, norm_base: u32, position: u32) -> f32 {
  let x = normed(base, dim, scale, norm_base);
  if (dim >= ROTARY_DIM) {
    return x;
  }
  let angle = cos_sin(position, frequency[dim % HALF]) * f32(ATTENTION_FACTOR);
  if (dim < HALF) {
    return fma(-normed(base, dim + HALF, scale, norm_base), angle.y, x * angle.x);
  }
  return fma(normed(base, dim - HALF, scale, norm_base), angle.y, x * angle.x);
}

#if DTYPE == 3
/// Dimensions 4 `quad` to 4 `quad` + 3 of a KV head: v as it is, or k turned.
fn quad_of(is_value: bool, base: u32, quad: u32, scale: f32, position: u32) -> vec4<f32> {
  if (is_value) {
    return qkv[base + quad];
  }
  var x = vec4<f32>();
  for (var i = 0u; i < 4; i++) {
    x[i] = turned(base, 4 * quad + i, scale, HEAD_DIM, position);
  }
  return x;
}

/// Writes this lane's part of a KV head, and the first lane its scale.
fn write_int8(is_value: bool, base: u32, lane: u32, scale: f32, position: u32, place: KvPlace) {
  var top = 0.0;
#if WIDE
  for (var quad = lane; quad < QUADS; quad += LANES) {
#else
  for (var quad = 0u; quad < QUADS; quad++) {
#endif
    let size = abs(quad_of(is_value, base, quad, scale, position));
    top = max(top, max(max(size.x, size.y), max(size.z, size.w)));
  }
#if WIDE
  top = lane_max(lane, top);
#endif
  let bits = scale_bits(top);
  for (var quad = lane; quad < QUADS; quad += LANES) {
    let word = quantized(quad_of(is_value, base, quad, scale, position), scale_from(bits));
    if (is_value) {
      atomicStore(&v_pool[place.word + quad], word);
    } else {
      atomicStore(&k_pool[place.word + quad], word);
    }
  }
  if (lane == 0) {
    let shift = place.scale % 2 * 16;
    if (is_value) {
      atomicAnd(&v_pool[place.scale / 2], 0xffff0000u >> shift);
      atomicOr(&v_pool[place.scale / 2], bits << shift);
    } else {
      atomicAnd(&k_pool[place.scale / 2], 0xffff0000u >> shift);
      atomicOr(&k_pool[place.scale / 2], bits << shift);
    }
  }
}
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
#if WIDE
  let head = group.x;
  let lane = thread;
#else
  let head = group.x * (WORKGROUP / LANES) + thread / LANES;
  let lane = thread % LANES;
#endif
  let row = rows[group.y];
  if (row.w == 0 || head >= ALL_HEADS) {
    return;
  }
  let base = (group.y * ALL_HEADS + head) * QUADS;
  if (head >= HEADS + KV_HEADS) {
    let place = kv_place(row.x, row.y, head - HEADS - KV_HEADS);
#if DTYPE == 3
    write_int8(true, base, lane, 1.0, row.y, place);
#else
    for (var pair = lane; pair < HEAD_DIM / 2; pair += LANES) {
      let quad = qkv[base + pair / 2];
      let value = select(quad.xy, quad.zw, pair % 2 == 1);
#if DTYPE == 0
      v_pool[place.word + 2 * pair] = bitcast<u32>(value.x);
      v_pool[place.word + 2 * pair + 1] = bitcast<u32>(value.y);
#else
      v_pool[place.word + pair] = pack_pair(value);
#endif
    }
#endif
    return;
  }
  let scale = head_scale(base, lane);
  var place = KvPlace();
  if (head >= HEADS) {
    place = kv_place(row.x, row.y, head - HEADS);
#if DTYPE == 3
    write_int8(false, base, lane, scale, row.y, place);
    return;
#endif
  }
  let norm_base = select(0u, HEAD_DIM, head >= HEADS);
  for (var pair = lane; pair < HEAD_DIM / 2; pair += LANES) {
    let value = vec2(
      turned(base, 2 * pair, scale, norm_base, row.y),
      turned(base, 2 * pair + 1, scale, norm_base, row.y),
    );
#if DTYPE == 3
    q[(group.y * HEADS + head) * (HEAD_DIM / 2) + pair] = value;
#else
    if (head < HEADS) {
      q[(group.y * HEADS + head) * (HEAD_DIM / 2) + pair] = value;
    } else {
#if DTYPE == 0
      k_pool[place.word + 2 * pair] = bitcast<u32>(value.x);
      k_pool[place.word + 2 * pair + 1] = bitcast<u32>(value.y);
#else
      k_pool[place.word + pair] = pack_pair(value);
#endif
    }
#endif
  }
}
