// One token for each row that samples, then, where COMMIT, its commit to the slot; where rows hold drafts, accept.wgsl commits.
// Temperature below 1e-5: the largest score. Otherwise, with m = the largest score, T = temperature and
// z = (score - m) / T, in the order and meaning of vLLM's V1 sampler (vllm/v1/sample/sampler.py, ops/topk_topp_sampler.py):
//   min-p: drops ids with exp(z) < min_p
//   top-k: keeps scores >= the k-th largest, all ties with it included
//   top-p: of the rest, softmaxed anew, keeps an id when those above it hold less than top_p of the mass;
//          ids tied with the last one kept stay (vLLM keeps as many of them as its sort happens to put first)
//   draw:  argmax of z + Gumbel noise over what is kept (the same distribution as softmax and a draw, with no prefix sum)
// Ties go to the lowest id. An id with z < -104 has no mass in f32. Thresholds: lib/row_search.wgsl.
// scores: [logit row][VOCAB] f32. lists: [logit row][QUADS] u32. types: f32, u32. features: none.
// constants: tables.ts; COMMIT; QUADS = ceil(VOCAB / 4); LANES = threads of a row. One workgroup a logit row.
#include "lib/tables.wgsl"
#include "lib/rng.wgsl"
#include "lib/row_search.wgsl"
#if COMMIT
#include "lib/commit.wgsl"
#endif

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;
@group(0) @binding(3) var<storage, read> scores: array<f32>;
@group(0) @binding(4) var<storage, read_write> history: array<u32>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> samples: array<u32>;
@group(0) @binding(7) var<storage, read_write> lists: array<u32>;

const SAMPLING_EPS = 1.0e-5f;

fn score(at: u32) -> f32 {
  return scores[at];
}

struct Params {
  done: u32,
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

// `length`: tokens before the one that is sampled. It follows from the row, so that rows after drafts draw as they would without.
fn load_params(slot: u32, length: u32, lane: u32) -> Params {
  if (lane == 0u) {
    let at = slot * SLOT_STRIDE;
    shared_params = Params(
      slots[at + SLOT_DONE],
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
  start_row(lane);
  let best = largest(i, lane);
  if (p.temperature < SAMPLING_EPS) {
    return best.id;
  }
  let row = Row(i, best.value, p.temperature);
  var floor = best.value - RANGE * p.temperature;
  if (p.min_p > 0.0) {
    // Never above the largest: log(1) need not be exactly 0.
    floor = clamp(best.value + p.temperature * log(p.min_p), floor, best.value);
  }
  // First top-k, then top-p: a loop, so that compilers which inline everything do that once.
  for (var phase = 0u; phase < 2u; phase++) {
    let weighs = phase == 1u;
    if (select(p.top_k > 0u && p.top_k < VOCAB, p.top_p < 1.0, weighs)) {
      floor = threshold(row, lane, floor, select(f32(p.top_k), p.top_p, weighs), weighs);
    }
  }
  return draw(row, lane, floor, p);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x;
  if (i >= num_logit_rows()) {
    return;
  }
  let row = rows[logit_row(i)];
  let length = row.y + 1u;
  let p = load_params(row.x, length, lane);
  if (!logit_row_is(i, LOGIT_SAMPLE) || row.w == 0u || p.done != 0u || length >= MAX_LEN) {
    if (lane == 0u) {
      samples[i] = NO_TOKEN;
    }
    return;
  }
  let id = choose(i, lane, p);
  if (lane == 0u) {
    samples[i] = id;
#if COMMIT
    commit(row.x, id, length);
#endif
  }
}
