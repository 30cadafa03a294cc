// Paged causal attention, software adapters: out[r][h] = sum_p softmax_p(score_p) V_p over the positions p that row r sees
// (0 .. its own, or the last WINDOW ones), score_p = cap(SCALE * q . K_p), cap(s) = CAP tanh(s / CAP) where CAP > 0.
// Query head h reads KV head h / (HEADS / KV_HEADS).
// Layout:    q, out [rows][HEADS][HEAD_DIM] f32; pools, block table and DTYPE as in lib/kv.wgsl.
// Sums:      f32. A score: each component of a quad apart by fma, quads ascending, then x + y + z + w
//            (int8: of integers, then times the key's scale; a value's is multiplied into its weight). Softmax: online
//            (Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867), positions ascending one by one, sums scaled
//            to the maximum so far. The order depends on the row's position and window alone.
// One thread a row and head: no barriers, no workgroup memory.
// Constants: HEADS, KV_HEADS, HEAD_DIM (multiple of 8), SCALE, WINDOW, CAP, HAS_CAP, DTYPE, BLOCK_SIZE, MAX_BLOCKS_PER_SEQ,
//            WORKGROUP (divides HEADS). Features: none.
// Bindings:  0 rows (slot, position, token, active); 1 blockTable; 2 q; 3 kPool; 4 vPool; 5 out.
#include "lib/kv_read.wgsl"
#include "lib/softcap.wgsl"
#include "lib/window.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

const QUADS = HEAD_DIM / 4;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let head = id.x % HEADS;
  let row = id.x / HEADS;
  let place = rows[row];
  if (place.w == 0) {
    return;
  }
  let base = id.x * QUADS;
#for i in 0..HEAD_DIM / 4
  let q_${i} = q[base + ${i}] * f32(SCALE);
  var sum_${i} = vec4<f32>();
#endfor
  let first = first_seen(place.y);
  var top = -1.0e30;
  var weights = 0.0;
  for (var position = first; position <= place.y; position++) {
    let kv = kv_head(place.x, position, head / (HEADS / KV_HEADS));
    var dots = vec4<f32>();
#for i in 0..HEAD_DIM / 8
    {
      let k = stored_key(kv, ${i});
      dots = fma(q_${2 * i}, k.low, dots);
      dots = fma(q_${2 * i + 1}, k.high, dots);
    }
#endfor
    let score = softcap((dots.x + dots.y + dots.z + dots.w) * key_scale(kv));
    // Always shrunk, often by 1: a branch here costs more than the products on an adapter that runs lanes in lockstep.
    let new_top = max(top, score);
    let shrink = exp(top - new_top);
    let weight = exp(score - new_top);
    weights = fma(weights, shrink, weight);
    top = new_top;
    let scaled = weight * value_scale(kv);
#for i in 0..HEAD_DIM / 8
    {
      let v = stored_value(kv, ${i});
      sum_${2 * i} = fma(vec4(scaled), v.low, sum_${2 * i} * shrink);
      sum_${2 * i + 1} = fma(vec4(scaled), v.high, sum_${2 * i + 1} * shrink);
    }
#endfor
  }
#for i in 0..HEAD_DIM / 4
  out[base + ${i}] = sum_${i} / weights;
#endfor
}
