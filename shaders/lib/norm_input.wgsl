// The one input row of a product, RMS normed on its way in: the numbers that rms_norm.wgsl would have written, bit for bit.
// Needs: lib/product.wgsl (QUADS), constants NORM_WIDTH (= k), EPS, OFFSET, NORM_BINDING, LANES (of the workgroup), SUM_LANES (of rms_norm.wgsl). Binding:
// NORM_BINDING norm [NORM_WIDTH] f32. Workgroup memory: 4 NORM_WIDTH bytes and lib/lane_sum.wgsl's.
#include "lib/lane_sum.wgsl"

@group(0) @binding(NORM_BINDING) var<storage, read> norm: array<vec4<f32>>;

var<workgroup> normed: array<vec4<f32>, NORM_WIDTH / 4>;

/// Fills `normed`. All lanes of the workgroup call it.
fn norm_input(lane: u32) {
  var squares = vec4<f32>();
  if (lane < SUM_LANES) {
    for (var i = lane; i < NORM_WIDTH / 4; i += SUM_LANES) {
      let x = input[i];
      squares = fma(x, x, squares);
    }
  }
  let sum = lane_sum(lane, squares.x + squares.y + squares.z + squares.w);
  let scale = inverseSqrt(sum / NORM_WIDTH + EPS);
  for (var i = lane; i < NORM_WIDTH / 4; i += LANES) {
    normed[i] = input[i] * scale * (norm[i] + f32(OFFSET));
  }
  workgroupBarrier();
}
