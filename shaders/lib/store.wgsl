// How a matrix product's sum becomes an output: + bias when BIAS, then + the old value when ACCUMULATE. The product's columns are
// shape.first to shape.first + n - 1 of the shape.stride columns of `out` and `bias`.
// Needs: lib/product.wgsl, binding `out`, constants BIAS, ACCUMULATE. Binding: 4 bias (when BIAS).
#if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>;
#endif

fn store(row: u32, column: u32, sum: f32) {
  let own = shape.first + column;
  let at = row * shape.stride + own;
  var value = sum;
#if BIAS
  value += bias[own];
#endif
#if ACCUMULATE
  value += out[at];
#endif
  out[at] = value;
}
