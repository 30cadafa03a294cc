// Logprobs of a row's target over the raw logits (before bias, penalties and temperature: vLLM's `raw_logprobs`):
//   target  = the sampled id where the row samples, else the history's token after the row's position (prompt logprobs)
//   logprob = x - m - log(sum exp(x_j - m)), m = the largest logit
//   rank    = 1 + how many logits are strictly greater than the target's
//   top     = the NUM_TOP largest, best first, ties lower id first: found one after the other, a pass each
// logits: [logit row][VOCAB] f32. logprobs: [logit row][LOGPROB_STRIDE] logprob, rank, MAX_TOP ids, MAX_TOP logprobs.
// types: f32, u32; floats of `logprobs` as bits. features: none. constants: tables.ts, LANES. One workgroup a logit row.
#include "lib/tables.wgsl"
#include "lib/row_reduce.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> history: array<u32>;
@group(0) @binding(4) var<storage, read> logits: array<f32>;
@group(0) @binding(5) var<storage, read> samples: array<u32>;
@group(0) @binding(6) var<storage, read_write> logprobs: array<u32>;

fn logit(at: u32) -> f32 {
  return clamp(logits[at], -LIMIT, LIMIT);
}

// The best entry after `last` in the order of value (falling), then id (rising).
fn next_best(base: u32, lane: u32, last: Best, is_first: bool) -> Best {
  var best = Best(LOWEST, 0u);
  for (var id = lane; id < VOCAB; id += LANES) {
    let x = logit(base + id);
    let comes_after = is_first || x < last.value || (x == last.value && id > last.id);
    if (comes_after && x > best.value) {
      best = Best(x, id);
    }
  }
  return row_best(lane, best);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x;
  if (i >= num_logit_rows() || !logit_row_is(i, LOGIT_LOGPROBS)) {
    return;
  }
  let row = rows[logit_row(i)];
  var wanted = samples[i];
  if (!logit_row_is(i, LOGIT_SAMPLE) && row.y + 1u < MAX_LEN) {
    wanted = history[row.x * MAX_LEN + row.y + 1u];
  }
  if (row.w == 0u || wanted >= VOCAB) {
    return;
  }
  let base = i * VOCAB;
  let target_logit = logit(base + wanted);
  var best = next_best(base, lane, Best(LOWEST, 0u), true);
  let m = best.value;
  var own = vec4<f32>(0.0);
  for (var id = lane; id < VOCAB; id += LANES) {
    let x = logit(base + id);
    own += vec4<f32>(exp(max(x - m, -104.0)), select(0.0, 1.0, x > target_logit), 0.0, 0.0);
  }
  let sums = row_sum(lane, own);
  let log_sum = log(sums.x);
  let at = i * LOGPROB_STRIDE;
  if (lane == 0u) {
    logprobs[at] = bitcast<u32>(target_logit - m - log_sum);
    logprobs[at + 1u] = 1u + u32(sums.y);
  }
  let num_top = min(slots[row.x * SLOT_STRIDE + SLOT_NUM_TOP], min(MAX_TOP, VOCAB));
  for (var k = 0u; k < num_top; k++) {
    if (k > 0u) {
      best = next_best(base, lane, best, false);
    }
    if (lane == 0u) {
      logprobs[at + 2u + k] = best.id;
      logprobs[at + 2u + MAX_TOP + k] = bitcast<u32>(best.value - m - log_sum);
    }
  }
}
