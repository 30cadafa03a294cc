// One token for each row that samples, then its commit to the slot.
// Temperature below 1e-5: the largest score. Otherwise, with m = the largest score, T = temperature and
// z = (score - m) / T, in the order and meaning of vLLM's V1 sampler (vllm/v1/sample/sampler.py, ops/topk_topp_sampler.py):
//   min-p: drops ids with exp(z) < min_p
//   top-k: keeps scores >= the k-th largest, all ties with it included
//   top-p: of the rest, softmaxed anew, keeps an id when those above it hold less than top_p of the mass;
//          ids tied with the last one kept stay (vLLM keeps as many of them as its sort happens to put first)
//   draw:  argmax of z + Gumbel noise over what is kept (the same distribution as softmax and a draw, with no prefix sum)
// Ties go to the lowest id. Scores closer than about 1e-10 T count as ties; an id with z < -104 has no mass in f32.
// Thresholds are found by search, with no sort: a pass counts or sums what lies above four pivots, then narrows to a fifth.
// A row's ids go by fours ("quads"); each lane keeps a list of its quads that can still matter, so that passes get shorter.
// scores: [logit row][VOCAB] f32. lists: [logit row][QUADS] u32. types: f32, u32. features: none.
// constants: tables.ts; QUADS = ceil(VOCAB / 4); LANES, threads of a row. One workgroup a logit row.
#include "lib/tables.wgsl"
#include "lib/rng.wgsl"
#include "lib/row_reduce.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;
@group(0) @binding(3) var<storage, read> scores: array<f32>;
@group(0) @binding(4) var<storage, read_write> history: array<u32>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> samples: array<u32>;
@group(0) @binding(7) var<storage, read_write> lists: array<u32>;

// Scores this far below the largest, in units of T, have exp(z) = 0 in f32.
const RANGE = 104.0f;
const SAMPLING_EPS = 1.0e-5f;
// The range in 5^16 parts.
const MAX_PASSES = 16u;

struct Params {
  done: u32,
  length: u32,
  offset: u32,
  choice: u32,
  seed_low: u32,
  seed_high: u32,
  top_k: u32,
  temperature: f32,
  top_p: f32,
  min_p: f32,
}
// `slots` is written here, so the compiler can't take what is read from it for uniform: it goes through workgroup memory.
var<workgroup> shared_params: Params;

fn load_params(slot: u32, lane: u32) -> Params {
  if (lane == 0u) {
    let at = slot * SLOT_STRIDE;
    let length = slots[at + SLOT_LENGTH];
    shared_params = Params(
      slots[at + SLOT_DONE],
      length,
      length - slots[at + SLOT_PROMPT_LENGTH],
      slots[at + SLOT_CHOICE],
      slots[at + SLOT_SEED_LOW],
      slots[at + SLOT_SEED_HIGH],
      slots[at + SLOT_TOP_K],
      bitcast<f32>(slots[at + SLOT_TEMPERATURE]),
      bitcast<f32>(slots[at + SLOT_TOP_P]),
      bitcast<f32>(slots[at + SLOT_MIN_P]),
    );
  }
  return workgroupUniformLoad(&shared_params);
}

struct Row {
  // Logit row.
  i: u32,
  largest: f32,
  temperature: f32,
}

// This lane's quads: the first `list_length` of its list, or lane, lane + LANES, ... while it has none.
var<private> has_list: bool = false;
var<private> list_length: u32;

fn list_at(i: u32, lane: u32, k: u32) -> u32 {
  return i * QUADS + lane + k * LANES;
}

fn quad_at(i: u32, lane: u32, k: u32) -> u32 {
  if (has_list) {
    return lists[list_at(i, lane, k)];
  }
  return lane + k * LANES;
}

fn quad_scores(i: u32, quad: u32) -> vec4<f32> {
  let at = i * VOCAB + 4u * quad;
  #if VOCAB % 4 == 0
  return vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
  #else
  var x = vec4<f32>(LOWEST);
  #for j in 0..4
  if (4u * quad + ${j}u < VOCAB) {
    x[${j}] = scores[at + ${j}u];
  }
  #endfor
  return x;
  #endif
}

fn largest(i: u32, lane: u32) -> Best {
  var best = Best(LOWEST, 0u);
  for (var quad = lane; quad < QUADS; quad += LANES) {
    let x = quad_scores(i, quad);
    #for j in 0..4
    if (x[${j}] > best.value) {
      best = Best(x[${j}], 4u * quad + ${j}u);
    }
    #endfor
  }
  return row_best(lane, best);
}

fn scaled(x: vec4<f32>, row: Row) -> vec4<f32> {
  return max(x - row.largest, vec4<f32>(-RANGE * row.temperature)) / row.temperature;
}

// Keeps the quads with a score at or above `floor` on the lane's list.
fn keep(row: Row, lane: u32, floor: f32) {
  var kept = 0u;
  for (var k = 0u; k < list_length; k++) {
    let quad = quad_at(row.i, lane, k);
    if (any(quad_scores(row.i, quad) >= vec4<f32>(floor))) {
      lists[list_at(row.i, lane, kept)] = quad;
      kept++;
    }
  }
  list_length = kept;
  has_list = true;
}

struct Tails {
  // How many (exact in f32 below 2^24).
  count: vec4<f32>,
  // The sum of exp(z) when it was asked for, else the count.
  amount: vec4<f32>,
}

// What lies at or above each of four pivots.
fn tails(row: Row, lane: u32, pivots: vec4<f32>, weighs: bool) -> Tails {
  var count = vec4<f32>(0.0);
  var mass = vec4<f32>(0.0);
  // Two loops: software adapters execute both sides of every branch in a loop, and exp costs more than all else here.
  if (weighs) {
    for (var k = 0u; k < list_length; k++) {
      let x = quad_scores(row.i, quad_at(row.i, lane, k));
      let weight = exp(scaled(x, row));
      #for j in 0..4
      let inside${j} = select(vec4<f32>(0.0), vec4<f32>(1.0), vec4<f32>(x[${j}]) >= pivots);
      count += inside${j};
      mass += inside${j} * weight[${j}];
      #endfor
    }
    return Tails(row_sum(lane, count), row_sum(lane, mass));
  }
  for (var k = 0u; k < list_length; k++) {
    let x = quad_scores(row.i, quad_at(row.i, lane, k));
    #for j in 0..4
    count += select(vec4<f32>(0.0), vec4<f32>(1.0), vec4<f32>(x[${j}]) >= pivots);
    #endfor
  }
  let total = row_sum(lane, count);
  return Tails(total, total);
}

// The largest t with enough at or above it: `goal` scores, or, when `weighs`, the part `goal` of the mass at or above `floor`;
// t = floor when all of that is not enough. Drops the quads below t.
fn threshold(row: Row, lane: u32, floor: f32, goal: f32, weighs: bool) -> f32 {
  var low = floor;
  var high = row.largest + max(abs(row.largest), row.temperature) * 1.0e-6;
  // Most of the mass lies close to the largest score: the first pivots look there.
  var pivots = max(vec4<f32>(low), row.largest - row.temperature * vec4<f32>(RANGE, 16.0, 8.0, 4.0));
  var tail = tails(row, lane, pivots, weighs);
  let wanted = select(goal, goal * tail.amount.x, weighs);
  if (tail.amount.x < wanted) {
    return floor;
  }
  var count_low = tail.count.x;
  var amount_low = tail.amount.x;
  var count_high = 0.0;
  for (var pass_number = 0u; pass_number < MAX_PASSES; pass_number++) {
    #for j in 0..4
    if (tail.amount[${j}] >= wanted) {
      low = pivots[${j}];
      count_low = tail.count[${j}];
      amount_low = tail.amount[${j}];
    }
    #endfor
    #for j in 0..4
    if (tail.amount[${3 - j}] < wanted) {
      high = pivots[${3 - j}];
      count_high = tail.count[${3 - j}];
    }
    #endfor
    keep(row, lane, low);
    if (count_low - count_high <= 1.0 || amount_low == wanted) {
      break;
    }
    pivots = low + (high - low) * vec4<f32>(0.2, 0.4, 0.6, 0.8);
    // Neighbouring numbers have nothing between them: what is left are ties.
    if (pivots.y <= low || pivots.z >= high) {
      break;
    }
    tail = tails(row, lane, pivots, weighs);
  }
  return low;
}

// Argmax of z + noise over the scores at or above `floor`; one call of the RNG serves a quad.
fn draw(row: Row, lane: u32, floor: f32, p: Params) -> u32 {
  var best = Best(LOWEST, 0u);
  let key = vec4<u32>(p.seed_low, p.seed_high, p.choice, p.offset);
  for (var k = 0u; k < list_length; k++) {
    let quad = quad_at(row.i, lane, k);
    let x = quad_scores(row.i, quad);
    let z = scaled(x, row);
    // Noise is bounded: most quads can't win, and skip its cost.
    if (max(max(z.x, z.y), max(z.z, z.w)) + GUMBEL_MAX >= best.value) {
      let bits = threefry(vec4<u32>(quad, 0u, 0u, 0u), key);
      let value = z + gumbel(bits);
      #for j in 0..4
      if (x[${j}] >= floor && value[${j}] > best.value) {
        best = Best(value[${j}], 4u * quad + ${j}u);
      }
      #endfor
    }
  }
  return row_best(lane, best).id;
}

fn choose(i: u32, lane: u32, p: Params) -> u32 {
  let best = largest(i, lane);
  if (p.temperature < SAMPLING_EPS) {
    return best.id;
  }
  let row = Row(i, best.value, p.temperature);
  list_length = (QUADS + LANES - 1u - lane) / LANES;
  var floor = best.value - RANGE * p.temperature;
  if (p.min_p > 0.0) {
    // Never above the largest: log(1) need not be exactly 0.
    floor = clamp(best.value + p.temperature * log(p.min_p), floor, best.value);
  }
  if (p.top_k > 0u && p.top_k < VOCAB) {
    floor = threshold(row, lane, floor, f32(p.top_k), false);
  }
  if (p.top_p < 1.0) {
    floor = threshold(row, lane, floor, p.top_p, true);
  }
  return draw(row, lane, floor, p);
}

fn commit(slot: u32, id: u32, length: u32) {
  let at = slot * SLOT_STRIDE;
  history[slot * MAX_LEN + length] = id;
  slots[at + SLOT_LENGTH] = length + 1u;
  counts[slot * VOCAB + id] += 1u;
  var done = length + 1u >= slots[at + SLOT_MAX_LENGTH];
  for (var s = 0u; s < slots[at + SLOT_NUM_STOPS]; s++) {
    done |= slots[at + SLOT_STOPS + s] == id;
  }
  if (done) {
    slots[at + SLOT_DONE] = 1u;
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x;
  if (i >= num_logit_rows()) {
    return;
  }
  let row = rows[logit_row(i)];
  let p = load_params(row.x, lane);
  if (!logit_row_is(i, LOGIT_SAMPLE) || row.w == 0u || p.done != 0u || p.length >= MAX_LEN) {
    if (lane == 0u) {
      samples[i] = NO_TOKEN;
    }
    return;
  }
  let id = choose(i, lane, p);
  if (lane == 0u) {
    samples[i] = id;
    commit(row.x, id, p.length);
  }
}
