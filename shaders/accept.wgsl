// Commits the sampled tokens of each slot in order, where rows may hold drafts: the token of a row counts when all drafts up to the row are
// what was sampled before them (exact acceptance: with or without drafts the same tokens). It ends at a stop id and at the slot's last token.
//   samples[i] of rows whose draft, or one before it, was wrong = REJECTED; of inactive rows it stays NO_TOKEN
// types: u32. features: none. constants: tables.ts; WORKGROUP. One thread a logit row; that of a slot's first row serves all of them.
// Comes after sample.wgsl.
#include "lib/tables.wgsl"
#include "lib/commit.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> samples: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.x;
  if (i >= num_logit_rows() || samples[i] == NO_TOKEN || draft_number(logit_row(i)) > 0u) {
    return;
  }
  let first = rows[logit_row(i)];
  var done = commit(first.x, samples[i], first.y + 1u);
  for (var d = 1u; i + d < num_logit_rows() && draft_number(logit_row(i + d)) == d; d++) {
    let row = rows[logit_row(i + d)];
    if (row.w == 0u) {
      return;
    }
    if (done || row.z != samples[i + d - 1u]) {
      done = true;
      samples[i + d] = REJECTED;
    } else {
      done = commit(first.x, samples[i + d], row.y + 1u);
    }
  }
}
