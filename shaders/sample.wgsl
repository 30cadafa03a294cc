// One token for each row that samples, then its commit to the slot.
// Temperature below 1e-5: the largest score. Otherwise, with m = the largest score, T = temperature and
// z = (score - m) / T, in the order and meaning of vLLM's V1 sampler (vllm/v1/sample/sampler.py, ops/topk_topp_sampler.py):
//   min-p: drops ids with exp(z) < min_p
//   top-k: keeps scores >= the k-th largest, all ties with it included
//   top-p: of the rest, softmaxed anew, keeps an id when those above it hold less than top_p of the mass;
//          ids tied with the last one kept stay (vLLM keeps as many of them as its sort happens to put first)
//   draw:  argmax of z + Gumbel noise over what is kept (the same distribution as softmax and a draw, with no prefix sum)
// Ties go to the lowest id. Scores closer than about 1e-10 T count as ties; an id with z < -104 has no mass in f32.
// Thresholds are found by search in five parts over the scores' range, with no sort: each pass counts and sums at 4 pivots.
// scores: [logit row][VOCAB] f32. types: f32, u32. features: none. constants: tables.ts, LANES (lanes a row: 4 on software
// adapters, whose subgroups have 4 lanes and whose barriers are slow; 256 on GPUs). One workgroup a logit row.
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

// Scores this far below the largest, in units of T, have exp(z) = 0 in f32.
const RANGE = 104.0f;
const SAMPLING_EPS = 1.0e-5f;
// 5^16 parts of the range.
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

fn largest(base: u32, lane: u32) -> Best {
  var best = Best(LOWEST, 0u);
  for (var id = lane; id < VOCAB; id += LANES) {
    let x = scores[base + id];
    if (x > best.value) {
      best = Best(x, id);
    }
  }
  return row_best(lane, best);
}

struct Row {
  base: u32,
  largest: f32,
  temperature: f32,
}

fn scaled(x: f32, row: Row) -> f32 {
  return max(x - row.largest, -RANGE * row.temperature) / row.temperature;
}

struct Tails {
  // How many (exact in f32 below 2^24).
  count: vec4<f32>,
  // The sum of exp(z) when it was asked for, else the count.
  amount: vec4<f32>,
}

// What lies at or above each pivot; `pivots` rise.
fn tails(row: Row, lane: u32, pivots: vec4<f32>, weighs: bool) -> Tails {
  var count = vec4<f32>(0.0);
  var mass = vec4<f32>(0.0);
  for (var id = lane; id < VOCAB; id += LANES) {
    let x = scores[row.base + id];
    if (x >= pivots.x) {
      let inside = select(vec4<f32>(0.0), vec4<f32>(1.0), vec4<f32>(x) >= pivots);
      count += inside;
      if (weighs) {
        mass += inside * exp(scaled(x, row));
      }
    }
  }
  let counts_all = row_sum(lane, count);
  if (weighs) {
    return Tails(counts_all, row_sum(lane, mass));
  }
  return Tails(counts_all, counts_all);
}

// The largest t with enough at or above it: `goal` scores, or, when `weighs`, the part `goal` of the mass at or above `floor`.
// t = floor when all of that is not enough.
fn threshold(row: Row, lane: u32, floor: f32, goal: f32, weighs: bool) -> f32 {
  var low = floor;
  var high = row.largest + max(abs(row.largest), row.temperature) * 1.0e-6;
  // Most of the mass lies close to the largest score: the first pivots look there.
  var pivots = low + (high - low) * vec4<f32>(0.0, 0.75, 0.85, 0.95);
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

// Argmax of z + noise over the scores at or above `floor`. Ids go by fours: one call of the RNG serves four.
fn draw(row: Row, lane: u32, floor: f32, p: Params) -> u32 {
  var best = Best(LOWEST, 0u);
  let key = vec4<u32>(p.seed_low, p.seed_high, p.choice, p.offset);
  for (var quad = lane; 4u * quad < VOCAB; quad += LANES) {
    var x = vec4<f32>(LOWEST);
    #for j in 0..4
    if (4u * quad + ${j}u < VOCAB) {
      x[${j}] = scores[row.base + 4u * quad + ${j}u];
    }
    #endfor
    let top = max(max(x.x, x.y), max(x.z, x.w));
    // Noise is bounded: most quads can't win, and skip its cost.
    if (top >= floor && scaled(top, row) + GUMBEL_MAX >= best.value) {
      let bits = threefry(vec4<u32>(quad, 0u, 0u, 0u), key);
      #for j in 0..4
      {
        let value = scaled(x[${j}], row) + gumbel(bits[${j}]);
        if (x[${j}] >= floor && value > best.value) {
          best = Best(value, 4u * quad + ${j}u);
        }
      }
      #endfor
    }
  }
  return row_best(lane, best).id;
}

fn choose(base: u32, lane: u32, p: Params) -> u32 {
  let best = largest(base, lane);
  if (p.temperature < SAMPLING_EPS) {
    return best.id;
  }
  let row = Row(base, best.value, p.temperature);
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
  let id = choose(i * VOCAB, lane, p);
  if (lane == 0u) {
    samples[i] = id;
    commit(row.x, id, p.length);
  }
}
