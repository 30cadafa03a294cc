// Bounded logits, in place: logits[r][i] = CAP * tanh(logits[r][i] / CAP) (Gemma 2; lib/softcap.wgsl).
// Layout:    logits [rows][WIDTH] f32. No sums; one thread an element, one row of workgroups a row.
// Constants: WIDTH, CAP, HAS_CAP (1), COUNT_WORD, WORKGROUP. Features: none.
// Bindings:  0 step [COUNT_WORD] = rows in use; 1 logits.
#include "lib/softcap.wgsl"

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.y >= step[COUNT_WORD] || id.x >= WIDTH) {
    return;
  }
  let at = id.y * WIDTH + id.x;
  logits[at] = softcap(logits[at]);
}
