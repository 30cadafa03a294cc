// Pooling of prompts after the last norm, for logit row i of row r, which is its sequence's last one in this step:
//   LOGIT_LAST   out[i] = normed[r]
//   LOGIT_MEAN   out[i] = sums[slot] = (...((s + normed[f]) + normed[f + 1]) + ... + normed[r])
//                f: the slot's first row in this step; s: 0 where f is at position 0, else the old sums[slot].
// Sums:      f32, one row after the other by position: however a prompt is cut into steps, and whatever runs beside it, the order is
//            the same. What divides by the number of tokens is the host.
// Layout:    normed [rows][WIDTH] f32; sums [slots][WIDTH] f32; out [logit row][WIDTH] f32. Rows of a sequence follow each other.
// One thread a dimension, one row of workgroups a logit row. Features: none.
// Constants: tables.ts; WIDTH, WORKGROUP.
// Bindings:  0 step; 1 rows (slot, position, token, active); 2 normed; 3 sums; 4 out.
#include "lib/tables.wgsl"

@group(0) @binding(0) var<storage, read> step_words: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> normed: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let d = id.x;
  let i = id.y;
  if (i >= num_logit_rows() || d >= WIDTH) {
    return;
  }
  let row = logit_row(i);
  if (logit_row_is(i, LOGIT_LAST)) {
    out[i * WIDTH + d] = normed[row * WIDTH + d];
    return;
  }
  let slot = rows[row].x;
  var first = row;
  while (first > 0u && rows[first - 1u].x == slot) {
    first--;
  }
  let at = slot * WIDTH + d;
  var sum = 0.0f;
  if (rows[first].y > 0u) {
    sum = sums[at];
  }
  for (var r = first; r <= row; r++) {
    sum += normed[r * WIDTH + d];
  }
  sums[at] = sum;
  out[i * WIDTH + d] = sum;
}
