// Logprobs of a row's target over the raw logits (before bias, penalties and temperature: vLLM's `raw_logprobs`):
//   target  = the sampled id where the row samples, else the history's token after the row's position (prompt logprobs)
//   logprob = x - m - log(sum exp(x_j - m)), m = the largest logit
//   rank    = 1 + how many logits are strictly greater than the target's
//   top     = the NUM_TOP largest, best first, ties lower id first: picked one after the other from those above the last one
// logits: [logit row][VOCAB] f32. logprobs: [logit row][LOGPROB_STRIDE] logprob, rank, MAX_TOP ids, MAX_TOP logprobs.
// types: f32, u32; floats of `logprobs` as bits. features: none. constants: tables.ts;
// QUADS, LANES: as in sample.wgsl. One workgroup a logit row.
#include "lib/tables.wgsl"
#include "lib/row_search.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> history: array<u32>;
@group(0) @binding(4) var<storage, read> logits: array<f32>;
@group(0) @binding(5) var<storage, read> samples: array<u32>;
@group(0) @binding(6) var<storage, read_write> logprobs: array<u32>;
@group(0) @binding(7) var<storage, read_write> lists: array<u32>;

fn score(at: u32) -> f32 {
  return clamp(logits[at], -LIMIT, LIMIT);
}

// The best entry after `last` in the order of value (falling), then id (rising).
fn next_best(i: u32, lane: u32, last: Best) -> Best {
  var best = Best(LOWEST, 0u);
  for (var k = 0u; k < list_length; k++) {
    let quad = quad_at(i, lane, k);
    let x = quad_scores(i, quad);
    #for j in 0..4
    {
      let id = 4u * quad + ${j}u;
      let comes_after = x[${j}] < last.value || (x[${j}] == last.value && id > last.id);
      if (comes_after && x[${j}] > best.value) {
        best = Best(x[${j}], id);
      }
    }
    #endfor
  }
  return row_best(lane, best);
}

// Sum of exp(z), and how many scores are greater than `target_score`.
fn mass_and_greater(row: Row, lane: u32, target_score: f32) -> vec2<f32> {
  var mass = vec4<f32>(0.0);
  var greater = vec4<f32>(0.0);
  for (var k = 0u; k < list_length; k++) {
    let x = quad_scores(row.i, quad_at(row.i, lane, k));
    mass += exp(scaled(x, row));
    greater += select(vec4<f32>(0.0), vec4<f32>(1.0), x > vec4<f32>(target_score));
  }
  let one = vec4<f32>(1.0);
  return row_sum(lane, vec4<f32>(dot(mass, one), dot(greater, one), 0.0, 0.0)).xy;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x;
  if (i >= num_logit_rows() || !logit_row_is(i, LOGIT_LOGPROBS)) {
    return;
  }
  let source = rows[logit_row(i)];
  var wanted = samples[i];
  if (!logit_row_is(i, LOGIT_SAMPLE) && source.y + 1u < MAX_LEN) {
    wanted = history[source.x * MAX_LEN + source.y + 1u];
  }
  if (source.w == 0u || wanted >= VOCAB) {
    return;
  }
  start_row(lane);
  var best = largest(i, lane);
  let row = Row(i, best.value, 1.0);
  let target_score = score(i * VOCAB + wanted);
  let sums = mass_and_greater(row, lane, target_score);
  let log_mass = log(sums.x);
  let at = i * LOGPROB_STRIDE;
  if (lane == 0u) {
    logprobs[at] = bitcast<u32>(target_score - row.largest - log_mass);
    logprobs[at + 1u] = 1u + u32(sums.y);
  }
  let num_top = min(slots[source.x * SLOT_STRIDE + SLOT_NUM_TOP], min(MAX_TOP, VOCAB));
  if (num_top > 1u) {
    _ = threshold(row, lane, row.largest - RANGE, f32(num_top), false);
  }
  for (var k = 0u; k < num_top; k++) {
    if (k > 0u) {
      best = next_best(i, lane, best);
    }
    if (lane == 0u) {
      logprobs[at + 2u + k] = best.id;
      logprobs[at + 2u + MAX_TOP + k] = bitcast<u32>(best.value - row.largest - log_mass);
    }
  }
}
