// Scores of the rows that sample: logits with bias and penalties, in the order and meaning of vLLM's V1 sampler
// (vllm/v1/sample/sampler.py and model_executor/layers/utils.py: apply_penalties):
//   1. min_tokens: stop ids are masked while fewer than MIN_LENGTH tokens come before
//   2. logit bias: x + bias
//   3. repetition penalty, ids of prompt and generated tokens: x > 0 ? x / r : x * r
//   4. x - frequency * (times generated), then - presence where it was generated at all
// Drafts up to the row count as generated: where one of them is wrong, the row's sample is not taken.
// logits, scores: [logit row][VOCAB] f32. types: f32, u32. features: none. constants: tables.ts.
// A workgroup owns CHUNK ids of one row; in it id belongs to thread id % 64, which alone writes its score, so that the
// few biased and masked ids may simply be written again: the last entry of an id wins, and masks win over all.
#include "lib/tables.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> logits: array<f32>;
@group(0) @binding(6) var<storage, read_write> scores: array<f32>;

const LANES = 64u;

struct Penalties {
  repetition: f32,
  presence: f32,
  frequency: f32,
}

fn penalized(x: f32, count: u32, p: Penalties) -> f32 {
  if (count == 0u) {
    return x;
  }
  var score = x;
  if (score > 0.0) {
    score = min(score, LIMIT * min(p.repetition, 1.0)) / p.repetition;
  } else {
    score = max(score, -LIMIT / max(p.repetition, 1.0)) * p.repetition;
  }
  let generated = count & ~IN_PROMPT;
  if (generated != 0u) {
    score -= p.frequency * f32(generated);
    score -= p.presence;
  }
  return clamp(score, -LIMIT, LIMIT);
}

// `counts` as they are once the drafts up to row r are taken.
fn count_of(slot: u32, id: u32, r: u32, drafts: u32) -> u32 {
  var count = counts[slot * VOCAB + id];
  for (var d = 0u; d < drafts; d++) {
    count += select(0u, 1u, rows[r - d].z == id);
  }
  return count;
}

fn owns(id: u32, first: u32, lane: u32) -> bool {
  return id >= first && id < min(first + CHUNK, VOCAB) && id % LANES == lane;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.y;
  if (i >= num_logit_rows() || !logit_row_is(i, LOGIT_SAMPLE)) {
    return;
  }
  let r = logit_row(i);
  let row = rows[r];
  if (row.w == 0u) {
    return;
  }
  let slot = row.x;
  let drafts = draft_number(r);
  let at = slot * SLOT_STRIDE;
  let p = Penalties(
    bitcast<f32>(slots[at + SLOT_REPETITION]),
    bitcast<f32>(slots[at + SLOT_PRESENCE]),
    bitcast<f32>(slots[at + SLOT_FREQUENCY]),
  );
  let first = group.x * CHUNK;
  let base = i * VOCAB;
  let end = min(first + CHUNK, VOCAB);
  // Two loops: software adapters execute both sides of every branch in a loop.
  if (p.repetition == 1.0 && p.presence == 0.0 && p.frequency == 0.0) {
    for (var id = first + lane; id < end; id += LANES) {
      scores[base + id] = clamp(logits[base + id], -LIMIT, LIMIT);
    }
  } else {
    for (var id = first + lane; id < end; id += LANES) {
      scores[base + id] = penalized(clamp(logits[base + id], -LIMIT, LIMIT), count_of(slot, id, r, drafts), p);
    }
  }
  for (var b = 0u; b < slots[at + SLOT_NUM_BIAS]; b++) {
    let entry = 2u * (slot * MAX_BIAS + b);
    let id = bias[entry];
    if (owns(id, first, lane)) {
      let biased = clamp(logits[i * VOCAB + id] + bitcast<f32>(bias[entry + 1u]), -LIMIT, LIMIT);
      scores[i * VOCAB + id] = penalized(biased, count_of(slot, id, r, drafts), p);
    }
  }
  if (row.y + 1u < slots[at + SLOT_MIN_LENGTH]) {
    for (var s = 0u; s < slots[at + SLOT_NUM_BARRED]; s++) {
      let id = slots[at + SLOT_STOPS + s];
      if (owns(id, first, lane)) {
        scores[i * VOCAB + id] = MASKED;
      }
    }
  }
}
