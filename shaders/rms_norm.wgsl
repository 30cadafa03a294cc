// RMS norm: out[r] = x * inverseSqrt(mean(x^2) + EPS) * (weight + OFFSET)  (+ the old out[r] when ACCUMULATE), x = input[r], or
// input[step[GATHER + 2r]] where GATHER >= 0 (the rows that make logits). Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
// Layout:    input, out [rows][WIDTH] f32; weight [WIDTH] f32. Read in quads where WIDTH is a multiple of 4.
// Sums:      f32 by fma. Each component of a quad is summed apart, quads ascending; then x + y + z + w in that order.
//            WIDE: lane l takes quads l, l + LANES, ...; the lanes' sums are added as a tree (lib/lane_sum.wgsl).
//            A row's order depends on nothing but WIDTH and the variant.
// Variants:  scalar: LANES threads a row, each sums the whole row (they run in lockstep on a software adapter, so this costs
//            no more than one) and writes its part; no barriers. WIDE: a workgroup a row.
// Constants: WIDTH, EPS, OFFSET, GATHER, ACCUMULATE, COUNT_WORD, LANES, WORKGROUP, WIDE.
// Bindings:  0 step [COUNT_WORD] = rows in use; 1 input; 2 weight; 3 out. Features: none.

#if WIDTH % 4 == 0
alias Part = vec4<f32>;
const PARTS = WIDTH / 4;

fn total(part: Part) -> f32 {
  return part.x + part.y + part.z + part.w;
}
#else
alias Part = f32;
const PARTS = WIDTH;

fn total(part: Part) -> f32 {
  return part;
}
#endif

#if WIDE
#include "lib/lane_sum.wgsl"
#endif

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read> input: array<Part>;
@group(0) @binding(2) var<storage, read> weight: array<Part>;
@group(0) @binding(3) var<storage, read_write> out: array<Part>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
#if WIDE
  let row = group.x;
  let lane = thread;
#else
  let row = group.x * (WORKGROUP / LANES) + thread / LANES;
  let lane = thread % LANES;
#endif
  if (row >= step[COUNT_WORD]) {
    return;
  }
#if GATHER >= 0
  let base = step[GATHER + 2 * row] * PARTS;
#else
  let base = row * PARTS;
#endif
  var squares = Part();
#if WIDE
  for (var i = lane; i < PARTS; i += LANES) {
    let x = input[base + i];
    squares = fma(x, x, squares);
  }
  let sum = lane_sum(lane, total(squares));
#else
  for (var i = 0u; i < PARTS; i++) {
    let x = input[base + i];
    squares = fma(x, x, squares);
  }
  let sum = total(squares);
#endif
  let scale = inverseSqrt(sum / WIDTH + EPS);
  for (var i = lane; i < PARTS; i += LANES) {
    let normed = input[base + i] * scale * (weight[i] + f32(OFFSET));
#if ACCUMULATE
    out[row * PARTS + i] += normed;
#else
    out[row * PARTS + i] = normed;
#endif
  }
}
