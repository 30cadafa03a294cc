// Start of a step: applies the changes of block tables, then resolves the step's rows.
//   blockTable[slot][index] = block                                      for each delta of the step
//   rows[r] = (slot, position, history[slot][position], active)          for every thread r of the bucket
// A position of POSITION_FROM_SLOT is the slot's last known token; such a row is inactive once its slot is done. Rows of drafts are
// inactive until draft.wgsl finds some.
// Rows past the step's own are (0, 0, 0, 0).
// types: u32. features: none. constants: tables.ts. One thread a row; deltas are shared out over all threads.
#include "lib/tables.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read_write> block_table: array<u32>;
@group(0) @binding(4) var<storage, read_write> rows: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let r = id.x;
  for (var d = r; d < step_words[STEP_NUM_DELTAS]; d += 64u * groups.x) {
    let delta = STEP_DELTAS + 3u * d;
    block_table[step_words[delta] * MAX_BLOCKS_PER_SEQ + step_words[delta + 1u]] = step_words[delta + 2u];
  }
  // `rows` may be longer than this bucket needs, and shorter than the threads of its last workgroup.
  if (r >= arrayLength(&rows)) {
    return;
  }
  if (r >= step_words[STEP_NUM_ROWS] || draft_number(r) > 0u) {
    rows[r] = vec4<u32>(0u);
    return;
  }
  let slot = step_words[STEP_ROWS + 2u * r];
  var position = step_words[STEP_ROWS + 2u * r + 1u];
  var is_active = 1u;
  if (position == POSITION_FROM_SLOT) {
    position = slots[slot * SLOT_STRIDE + SLOT_LENGTH] - 1u;
    is_active = select(1u, 0u, slots[slot * SLOT_STRIDE + SLOT_DONE] != 0u);
  }
  rows[r] = vec4<u32>(slot, position, history[slot * MAX_LEN + position], is_active);
}
