// Token counts of slots that a step admits, from their histories:
//   counts[slot][id] = how often id is in history[PROMPT_LENGTH..LENGTH)  |  bit 31 if id is in history[0..PROMPT_LENGTH)
// types: u32, atomics (integer, so that their order does not matter). features: none. constants: tables.ts.
// One workgroup an admitted slot; the dispatch has as many as there are slots.
#include "lib/tables.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;

const LANES = 64u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (group.x >= step_words[STEP_NUM_ADMITTED]) {
    return;
  }
  let slot = step_words[STEP_ADMITTED + group.x];
  let base = slot * VOCAB;
  for (var id = lane; id < VOCAB; id += LANES) {
    atomicStore(&counts[base + id], 0u);
  }
  storageBarrier();
  let prompt_length = slots[slot * SLOT_STRIDE + SLOT_PROMPT_LENGTH];
  let length = min(slots[slot * SLOT_STRIDE + SLOT_LENGTH], MAX_LEN);
  for (var p = lane; p < length; p += LANES) {
    let id = history[slot * MAX_LEN + p];
    if (id >= VOCAB) {
      continue;
    }
    if (p < prompt_length) {
      atomicOr(&counts[base + id], IN_PROMPT);
    } else {
      atomicAdd(&counts[base + id], 1u);
    }
  }
}
