// Logits of the rows that are held to a grammar, in place and before all else, so that penalties, sampling and logprobs know of no
// other ids (vLLM's order: apply_grammar_bitmask in vllm/v1/structured_output/utils.py comes before its sampler):
//   x = max(x, LEAST)   where bit id % 32 of masks[slot][id / 32] is set
//   x = MASKED          elsewhere
// LEAST: far below any logit, and far enough above masked ids that no penalty brings the two together.
// logits: [logit row][VOCAB] f32. types: f32, u32. features: none. constants: tables.ts; CHUNK.
// A workgroup owns CHUNK ids of one row.
#include "lib/tables.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> masks: array<u32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;

const LANES = 64u;
const LEAST = -1.0e30f;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.y;
  if (i >= num_logit_rows() || !logit_row_is(i, LOGIT_MASKED)) {
    return;
  }
  let mask = rows[logit_row(i)].x * MASK_WORDS;
  let base = i * VOCAB;
  let first = group.x * CHUNK;
  let end = min(first + CHUNK, VOCAB);
  for (var id = first + lane; id < end; id += LANES) {
    let allowed = (masks[mask + id / 32u] >> (id % 32u)) & 1u;
    logits[base + id] = select(MASKED, max(logits[base + id], LEAST), allowed == 1u);
  }
}
